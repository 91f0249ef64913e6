"""OCSP responses and revocation lists through the real daemon, renewed while it runs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from errno import EACCES
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from netlink.handshake import AuthMode
from netlink.upcall import UpcallConnection
from quic_tlshd.tls.alert import AlertDescription as A
from tests.peers import pki, quic_stack
from tests.peers.crafted import DAY, NOW, Crafted, craft
from tests.peers.daemon import Daemon, entry, running
from tests.peers.responder import respond

STAPLES = (x509.TLSFeature([x509.TLSFeatureType.status_request]), False)
AUTHORITY = pki.Authority("root")
ROOT = Crafted(AUTHORITY.certificate, AUTHORITY.private_key)
MIDDLE = craft("middle", ROOT, ca=True)
END = craft("a.example", MIDDLE, extensions=[STAPLES])
ISSUED = pki.Issued(END.certificate, END.key, (MIDDLE.certificate,))
CLIENT = AUTHORITY.issue(("client.example",), usage="client")


def write(path: Path, content: bytes) -> None:
    fresh = path.with_suffix(".new")
    fresh.write_bytes(content)
    os.replace(fresh, path)


def crl(*revoked: x509.Certificate) -> bytes:
    return x509.load_der_x509_crl(AUTHORITY.crl(*revoked)).public_bytes(Encoding.PEM)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Daemon, Path]]:
    """A daemon with a certificate that must be stapled and an OCSP response out of date, and its files' folder."""
    directory = tmp_path_factory.mktemp("ocsp")
    AUTHORITY.write(directory / "root.pem")
    write(directory / "a.ocsp", respond(END, MIDDLE, until=NOW - DAY / 2))
    write(directory / "root.crl", crl())
    certificate, key = CLIENT.write(directory, "client")
    entries = {
        "a": entry(ISSUED, alpn="h3", ocsp_response=str(directory / "a.ocsp")),
        "mutual": entry(
            AUTHORITY.issue(("a.example",)),
            alpn="mutual",
            client_certificate="require",
            truststore=str(directory / "root.pem"),
            crl=str(directory / "root.crl"),
        ),
    }
    mine = {
        "x509.truststore": str(directory / "root.pem"),
        "x509.certificate": str(certificate),
        "x509.private_key": str(key),
    }
    with running(entries, client=mine) as daemon:
        yield daemon, directory


async def handshake(daemon: Daemon, alpn: bytes = b"h3") -> quic_stack.Result:
    async with await UpcallConnection.open(daemon.socket) as connection:
        return await quic_stack.handshake(
            connection, connection, peername="a.example", alpn=(alpn,), auth_mode=AuthMode.X509
        )


async def test_a_response_is_stapled_as_soon_as_there_is_a_good_one(server: tuple[Daemon, Path]) -> None:
    daemon, directory = server
    assert len(daemon.wait_for_log("it is not stapled")) == 1
    result = await handshake(daemon)
    assert (result.client.status, result.client.alert) == (EACCES, A.BAD_CERTIFICATE_STATUS_RESPONSE)
    assert "has to be there and is not" in (result.client.reason or "")
    write(directory / "a.ocsp", respond(END, MIDDLE))
    daemon.wait_for_log("a.ocsp has changed and was read anew")
    result = await handshake(daemon)
    assert (result.client.status, result.server.status) == (0, 0)


async def test_a_client_is_refused_as_soon_as_a_list_says_so(server: tuple[Daemon, Path]) -> None:
    daemon, directory = server
    result = await handshake(daemon, b"mutual")
    assert (result.client.status, result.server.status) == (0, 0)
    write(directory / "root.crl", crl(CLIENT.certificate))
    daemon.wait_for_log("root.crl has changed and was read anew")
    result = await handshake(daemon, b"mutual")
    assert (result.server.status, result.server.alert) == (EACCES, A.CERTIFICATE_REVOKED)
