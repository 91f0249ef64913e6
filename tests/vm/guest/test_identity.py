"""Who the peer is: whom a client verifies, and what REMOTE_AUTH tells a consumer."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from tests.vm.guest import keyring, solo
from tests.vm.guest.hsgen import Kind
from tests.vm.guest.scenario import handshake
from tests.vm.guest.solo import Solo

ANOTHER_ADDRESS = "127.0.0.9"  # the server's too, and not in its certificate
AUTHENTICATED = 0xFFFFFFFF  # NFSD takes all but 0 for a client that has proved who it is


@pytest.mark.parametrize("kind", [Kind.CLIENT_ANON, Kind.CLIENT_X509])
def test_address_for_want_of_a_name(solo_daemon: Solo, kind: Kind) -> None:
    with solo.connection() as ends:
        results = handshake(*ends, kind, peername="")
    assert all(result.succeeded for result in results), results
    solo_daemon.daemon.wait_for_log(f"as client with {solo.ADDRESS} ({solo.ADDRESS} port ")


def test_address_that_is_not_in_the_certificate(solo_daemon: Solo) -> None:
    """Its name is, and who looked that up would be satisfied: whoever answers for the DNS would decide."""
    with Path("/etc/hosts").open("a") as hosts:
        hosts.write(f"{ANOTHER_ADDRESS} {solo.SERVER_NAME}\n")
    with solo.connection(ANOTHER_ADDRESS) as ends:
        ours, _ = handshake(*ends, Kind.CLIENT_ANON, peername="")
    assert ours.status == -errno.EACCES, ours
    with solo.connection(ANOTHER_ADDRESS) as ends:
        ours, _ = handshake(*ends, Kind.CLIENT_ANON, peername=solo.SERVER_NAME)
    assert ours.succeeded, ours


def test_server_learns_whether_the_client_proved_who_it_is(solo_daemon: Solo) -> None:
    for kind, peerid in ((Kind.CLIENT_ANON, 0), (Kind.CLIENT_X509, AUTHENTICATED)):
        with solo.connection() as ends:
            _, theirs = handshake(*ends, kind, solo.SERVER_NAME)
        assert theirs.succeeded, theirs
        assert theirs.peerid == peerid


def test_client_learns_the_servers_certificates(solo_daemon: Solo, tmp_path: Path) -> None:
    """As a key that the kernel can verify with; the same for the next connection, so that keys do not pile up."""
    serials = set()
    for _ in range(3):
        with solo.connection() as ends:
            ours, _ = handshake(*ends, Kind.CLIENT_X509, solo.SERVER_NAME)
        assert ours.succeeded, ours
        serials.add(ours.peerid)
    (serial,) = serials
    lines = [line for line in Path("/proc/keys").read_text().splitlines() if f" TLS x509 {solo.SERVER_NAME} " in line]
    assert len(lines) == len(solo_daemon.server.chain) == 3
    (line,) = [line for line in lines if line.startswith(f"{serial:08x} ")]
    assert key_id(solo_daemon.server.certificate) in line
    assert line.split()[3] in ("1h", "59m"), "it expires"
    # It is the server's public key: a signature by the private one verifies.
    digest, signature = tmp_path / "digest", tmp_path / "signature"
    hashed = hashes.Hash(hashes.SHA256())
    hashed.update(b"data")
    digest.write_bytes(hashed.finalize())
    private_key = solo_daemon.server.private_key
    assert isinstance(private_key, ec.EllipticCurvePrivateKey)
    signature.write_bytes(private_key.sign(b"data", ec.ECDSA(hashes.SHA256())))
    keyring.keyctl("pkey_verify", str(serial), "0", str(digest), str(signature), "enc=x962", "hash=sha256")


def test_client_that_is_anonymous_learns_nothing(solo_daemon: Solo) -> None:
    with solo.connection() as ends:
        ours, _ = handshake(*ends, Kind.CLIENT_ANON, solo.SERVER_NAME)
    assert ours.succeeded, ours
    assert ours.peerid == 0


def key_id(certificate: x509.Certificate) -> str:
    """The end of the subject key identifier, as /proc/keys shows it."""
    extension = certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    return extension.value.digest.hex()[-8:]
