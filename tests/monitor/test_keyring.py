"""Kernel keyrings, the machine's own: PSKs by serial and by identity, certificates by serial."""

from __future__ import annotations

import time
from collections.abc import Iterator
from errno import EINVAL, ENOKEY
from pathlib import Path

import keyctl2
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from keyctl2 import Key, KeySpec

from quic_tlshd.monitor.keyring import INTERVAL, Keyrings, hash_of
from tests.peers import pki

IDENTITY = "NVMe1R02 nqn.host nqn.subsystem digest="


@pytest.fixture
def elsewhere() -> Iterator[int]:
    """A keyring that our session does not have, as a kernel consumer's would be."""
    try:
        keyctl2.join_session_keyring()
        serial = keyctl2.add_key("keyring", "quic-tlshd-test", None, KeySpec.PROCESS_KEYRING)
    except OSError as error:
        pytest.skip(f"this kernel lets us have no keyrings: {error}")
    yield serial
    Key(serial).unlink(KeySpec.PROCESS_KEYRING)


def opened(*names: str) -> Keyrings:
    keyrings = Keyrings(names)
    keyrings.open()
    return keyrings


def test_a_key_by_serial_has_its_description_for_identity(elsewhere: int) -> None:
    serial = keyctl2.add_key("user", IDENTITY, b"secret", elsewhere)
    found = opened().psk(serial)
    assert (found.psk.identity, found.psk.key, found.psk.hash_name) == (IDENTITY.encode(), b"secret", "sha384")
    assert found.serial == serial


def test_a_serial_that_is_none(elsewhere: int) -> None:
    with pytest.raises(keyctl2.KeyctlError) as refusal:
        opened().psk(0x7FFFFFF0)
    assert refusal.value.errno == ENOKEY


@pytest.mark.parametrize("number", [0xFFFFFFFD, -3, 0, 1 << 40])
def test_a_number_that_is_no_serial(elsewhere: int, number: int) -> None:
    """Not even those that stand for a keyring of who asks: our own."""
    for ask in (lambda: opened().psk(number), lambda: opened().credential(number, number)):
        with pytest.raises(OSError, match="key not available") as refusal:
            ask()
        assert refusal.value.errno == ENOKEY


def test_a_requests_own_keyring_is_searched_for_it_alone(elsewhere: int) -> None:
    serial = keyctl2.add_key("user", IDENTITY, b"secret", elsewhere)
    keyrings = opened()
    found = keyrings.find(IDENTITY.encode(), elsewhere)
    assert found is not None
    assert found.serial == serial
    assert keyrings.find(IDENTITY.encode(), None) is None


def test_a_keyring_of_the_configuration_is_found_at_use(elsewhere: int) -> None:
    keyrings = opened("quic-tlshd-test")  # by name: it might be made after our start
    serial = keyctl2.add_key("user", IDENTITY, b"secret", elsewhere)
    found = keyrings.find(IDENTITY.encode(), None)
    assert found is not None
    assert found.serial == serial
    assert opened(str(elsewhere)).find(IDENTITY.encode(), None) is not None


def test_a_key_by_serial_may_be_in_a_keyring_of_the_configuration(elsewhere: int) -> None:
    """As it is made by default, a key can be read by nobody who has not linked its keyring, root neither."""
    ring = keyctl2.add_key("keyring", "quic-tlshd-test by serial", None, elsewhere)
    serial = keyctl2.add_key("user", IDENTITY, b"secret", ring)
    Key(ring).set_perm(0x3F1B0000)
    Key(ring).link(KeySpec.USER_KEYRING)
    try:
        Key(ring).unlink(elsewhere)
        with pytest.raises(OSError, match="denied"):
            opened().psk(serial)
        assert opened("quic-tlshd-test by serial").psk(serial).psk.key == b"secret"
    finally:
        Key(ring).unlink(KeySpec.USER_KEYRING)


@pytest.mark.parametrize(
    "description",
    [
        pytest.param("\udcff\udcfe", id="no UTF-8"),
        pytest.param("\n00000001 I--Q---     1 perm 3f030000 me     0 keyring   quic-tlshd-test: 1", id="no number"),
    ],
)
def test_a_stranger_gives_a_key_an_odd_name(elsewhere: int, description: str) -> None:
    """/proc/keys shows it as it is, and those that we look for are found there all the same."""
    keyctl2.add_key("user", description, b"odd", elsewhere)
    serial = keyctl2.add_key("user", IDENTITY, b"secret", elsewhere)
    found = opened("quic-tlshd-test").find(IDENTITY.encode(), None)
    assert found is not None
    assert found.serial == serial


def test_a_name_that_has_a_line_for_another_keyring(elsewhere: int) -> None:
    """Who may not make a root's keyring may still give a key a name that says in /proc/keys that there is one."""
    ring = keyctl2.add_key("keyring", "a stranger's", None, elsewhere)
    keyctl2.add_key("user", IDENTITY, b"known to a stranger", ring)
    line = f"{ring:08x} I--Q---     1 perm 3f3f003f     0     0 keyring   quic-tlshd-wanted"
    keyctl2.add_key("user", f"x\n{line}", b"odd", elsewhere)
    assert f"{line}: 3" in Path("/proc/keys").read_text(errors="replace").splitlines()
    assert opened("quic-tlshd-wanted").find(IDENTITY.encode(), None) is None


@pytest.mark.parametrize("identity", [b"nobody", b"a\0b", b"\xff\xfe", b"x" * 5000])
def test_an_identity_that_nobody_has(elsewhere: int, identity: bytes) -> None:
    assert opened().find(identity, elsewhere) is None


def test_identities_that_nobody_has_are_not_looked_for_all_the_time(
    elsewhere: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client may offer many, and each look costs as much as there are keys."""
    reads = []
    read_bytes = Path.read_bytes

    def counted(path: Path) -> bytes:
        reads.append(path)
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", counted)
    keyrings = opened("quic-tlshd-test")
    began = time.monotonic()
    for number in range(100):
        assert keyrings.find(b"nobody %d" % number, None) is None
    assert len(reads) <= 1 + (time.monotonic() - began) / INTERVAL
    keyctl2.add_key("user", IDENTITY, b"secret", keyctl2.add_key("keyring", "quic-tlshd-new", None, elsewhere))
    keyrings.use(("quic-tlshd-new",))
    assert keyrings.find(IDENTITY.encode(), None) is not None


def test_what_accept_linked_is_unlinked(elsewhere: int) -> None:
    """When the last request is over that came with it."""
    ring = keyctl2.add_key("keyring", "a consumer's", None, KeySpec.PROCESS_KEYRING)
    serial = keyctl2.add_key("user", IDENTITY, b"secret", ring)
    keyrings = opened()
    keyrings.hold(ring)
    keyrings.hold(ring)
    keyrings.release(ring)
    assert keyctl2.search(KeySpec.PROCESS_KEYRING, "user", IDENTITY) == serial
    keyrings.release(ring)
    with pytest.raises(OSError, match="not available"):
        keyctl2.search(KeySpec.PROCESS_KEYRING, "user", IDENTITY)
    keyrings.hold(ring)
    keyrings.release(ring)  # it was gone already


def test_a_keyring_that_a_reload_does_without(elsewhere: int) -> None:
    keyctl2.add_key("user", IDENTITY, b"secret", elsewhere)
    keyrings = opened("quic-tlshd-test", "another")
    assert keyrings.find(IDENTITY.encode(), None) is not None
    keyrings.use(("another",))
    assert keyrings.find(IDENTITY.encode(), None) is None


def test_a_certificate_is_no_pre_shared_key(elsewhere: int) -> None:
    """Everybody may know it, and it lies in the same keyrings."""
    issued = pki.Authority("root").issue(("a.example",))
    keyctl2.add_key("user", IDENTITY, issued.chain[0], elsewhere)
    assert opened().find(IDENTITY.encode(), elsewhere) is None


def test_a_certificate_and_its_key_by_serial(elsewhere: int) -> None:
    issued = pki.Authority("root").issue(("a.example",))
    key = issued.private_key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    certificate = keyctl2.add_key("user", "certificate", issued.chain[0], elsewhere)
    private_key = keyctl2.add_key("user", "key", key, elsewhere)
    keyrings = opened()
    credential = keyrings.credential(certificate, private_key)
    assert credential.chain.chain == issued.chain[:1]
    for pair in ((private_key, certificate), (certificate, certificate)):
        with pytest.raises(OSError, match="DER") as refusal:
            keyrings.credential(*pair)
        assert refusal.value.errno == EINVAL


@pytest.mark.parametrize(
    ("identity", "name"),
    [
        (b"NVMe0R01 host subsystem", "sha256"),
        (b"NVMe1G02 host subsystem digest", "sha384"),
        (b"NVMe2R02 host subsystem", "sha256"),
        (b"something else", "sha256"),
    ],
)
def test_nvme_identities_say_their_hash(identity: bytes, name: str) -> None:
    assert hash_of(identity) == name
