"""Keys that hold a server's certificates: the machine's own keyrings."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import keyctl2
import pytest
from cryptography import x509
from keyctl2 import Key

from quic_tlshd.monitor.peer_keys import MOST, peer_keys
from tests.peers import pki


@pytest.fixture(autouse=True)
def _session() -> Iterator[None]:
    try:
        keyctl2.join_session_keyring()
    except OSError as error:
        pytest.skip(f"this kernel lets us have no keyrings: {error}")
    root = pki.Authority("probe").issue(("probe.example",)).chain
    if not peer_keys(root, "probe.example"):
        pytest.skip("this kernel has no keys of type asymmetric with X.509 certificates")
    keyctl2.join_session_keyring()
    yield
    keyctl2.join_session_keyring()


def line_of(serial: int) -> str:
    """Of /proc/keys."""
    (line,) = [line for line in Path("/proc/keys").read_text().splitlines() if line.startswith(f"{serial:08x} ")]
    return line


def chain(count: int) -> tuple[bytes, ...]:
    """Some certificates; nobody verifies them here."""
    root = pki.Authority("root")
    return tuple([root.issue((f"{number}.example",)).chain[0] for number in range(count)])


def key_id(certificate: bytes) -> str:
    """The end of the identifier by which the kernel finds the key for a signature."""
    extensions = x509.load_der_x509_certificate(certificate).extensions
    return extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest.hex()[-8:]


def test_each_certificate_has_its_key() -> None:
    certificates = chain(3)
    serials = peer_keys(certificates, "a.example")
    assert len(set(serials)) == 3
    for serial, certificate in zip(serials, certificates, strict=True):
        assert "asymmetri TLS x509 a.example " in line_of(serial)
        assert f": X509.ecdsa-nist-p256 {key_id(certificate)} " in line_of(serial)


def test_no_more_than_the_kernel_keeps() -> None:
    assert len(peer_keys(chain(MOST + 2), "a.example")) == MOST


def test_a_certificate_that_is_shown_again_has_the_same_key() -> None:
    """So a consumer that just heard of it does not lose it to the next handshake, and keys don't pile up."""
    (certificate,) = chain(1)
    assert peer_keys((certificate,), "a.example") == peer_keys((certificate,), "a.example")
    assert peer_keys((certificate,), "a.example") != peer_keys((certificate,), "b.example")


def test_a_key_expires() -> None:
    certificates = chain(1)
    (serial,) = peer_keys(certificates, "a.example")
    assert " 1h " in line_of(serial) or "59m" in line_of(serial)
    Key(serial).revoke()
    (after,) = peer_keys(certificates, "a.example")
    assert after != serial


def test_root_may_use_it_and_nobody_else() -> None:
    (serial,) = peer_keys(chain(1), "a.example")
    permissions = Key(serial).describe().perm
    assert permissions & 0xFFFF == 0
    assert permissions >> 16 & 0xFF == 0x1B  # view, read, search and link


def test_what_the_kernel_can_not_hold_has_no_key() -> None:
    """The first REMOTE_AUTH is the end certificate's or there is none."""
    (known,) = chain(1)
    assert peer_keys((known, b"garbage", known), "a.example") == peer_keys((known,), "a.example")
    assert peer_keys((b"garbage", known), "a.example") == ()


def test_they_are_gone_with_the_session() -> None:
    (serial,) = peer_keys(chain(1), "a.example")
    keyctl2.join_session_keyring()
    deadline = time.monotonic() + 10
    while f"{serial:08x} " in Path("/proc/keys").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.01)
