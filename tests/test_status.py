"""What DONE says to the kernel: only what its consumers understand (net/sunrpc, drivers/nvme)."""

from __future__ import annotations

from errno import EACCES, ECONNRESET, EINVAL, EIO, EKEYREVOKED, ENOKEY, ENOTSOCK, ETIMEDOUT, errorcode

import pytest

from quic_tlshd.status import kernel_errno

UNDERSTOOD = {"EACCES", "ENOMEM", "EINVAL", "ENOKEY", "EIO", "ETIMEDOUT", "EKEYREJECTED"}


@pytest.mark.parametrize("errno", errorcode)
def test_every_errno_is_one_that_is_understood(errno: int) -> None:
    assert errorcode[kernel_errno(errno)] in UNDERSTOOD
    if errorcode[errno] in UNDERSTOOD:
        assert kernel_errno(errno) == errno


@pytest.mark.parametrize(
    ("errno", "said"), [(0, 0), (ECONNRESET, ETIMEDOUT), (ENOTSOCK, EINVAL), (EKEYREVOKED, ENOKEY), (4095, EIO)]
)
def test_the_nearest_is_said(errno: int, said: int) -> None:
    assert kernel_errno(errno) == said
    assert kernel_errno(EACCES) == EACCES
