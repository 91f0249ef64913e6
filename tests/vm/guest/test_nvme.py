"""NVMe/TCP with TLS: the host and the target in the kernel make the requests, with pre-shared keys."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest

from tests.vm.guest import keyring, nvme
from tests.vm.guest.scenario import Handlers, refusal

IDENTITY = keyring.nvme_identity(nvme.HOST, nvme.SUBSYSTEM)
NOT_CONNECTED = 1, "could not add new controller: failed to write to nvme-fabrics device"
KEY, ANOTHER_KEY = bytes(range(32)), bytes(32)


@pytest.fixture(autouse=True)
def nvme_keyring(pair: Handlers) -> Iterator[None]:
    """tlshd unlinks the keyring that a request brings from its session keyring, which .nvme was in before. It finds it
    all the same as long as requests bring it, as NVMe's do; others' scenarios want it back."""
    yield
    for handler in pair:
        if handler.name == "tlshd":
            handler.reload()


@pytest.mark.parametrize("hmac", [1, 2], ids=["sha256", "sha384"])
def test_connect(pair: Handlers, nvme_target: None, hmac: int) -> None:
    """Connect, write a megabyte, and read it back from the target."""
    data = os.urandom(1 << 20)
    with nvme.generated_key(hmac), nvme.connected() as device, device.open("r+b", buffering=0) as file:
        file.write(data)
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        file.seek(0)
        assert file.read(len(data)) == data


def test_wrong_key(pair: Handlers, nvme_target: None, record_property: Callable[[str, object], None]) -> None:
    """Host and target have different keys of one identity."""
    reasons = {"quic-tlshd": "the PSK binder is wrong: the client has another key", "tlshd": "illegal parameter"}
    with (
        keyring.made("of the host") as ring,
        keyring.added("psk", IDENTITY, ANOTHER_KEY, ring) as serial,
        keyring.added("psk", IDENTITY, KEY, keyring.find(keyring.NVME)),
        refusal(pair.server, reasons),
    ):
        status, said = nvme.connect_error(ring, serial)
    record_property("nvme", f"exit status {status}: {said}")
    assert (status, said) == NOT_CONNECTED


def test_unknown_identity(pair: Handlers, nvme_target: None, record_property: Callable[[str, object], None]) -> None:
    """The target has no key of that identity, which its log names."""
    reasons = {"quic-tlshd": f"can be used here: '{IDENTITY}'", "tlshd": f"failed to search 'psk' key '{IDENTITY}'"}
    with (
        keyring.made("of the host") as ring,
        keyring.added("psk", IDENTITY, KEY, ring) as serial,
        refusal(pair.server, reasons),
    ):
        status, said = nvme.connect_error(ring, serial)
    record_property("nvme", f"exit status {status}: {said}")
    assert (status, said) == NOT_CONNECTED
