"""NVMe/TCP with TLS: the host and the target in the kernel make the requests, with pre-shared keys."""

from __future__ import annotations

import os

import pytest

from tests.vm.guest import keyring, nvme
from tests.vm.guest.scenario import Handlers


@pytest.mark.parametrize("hmac", [1, 2], ids=["sha256", "sha384"])
def test_connect(pair: Handlers, nvme_target: None, hmac: int) -> None:
    """Connect, write a megabyte, and read it back from the target."""
    serial = nvme.insert_key(hmac)
    data = os.urandom(1 << 20)
    with nvme.connected() as device, device.open("r+b", buffering=0) as file:
        file.write(data)
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        file.seek(0)
        assert file.read(len(data)) == data
    keyring.keyctl("unlink", str(serial), str(keyring.find(keyring.NVME)))
