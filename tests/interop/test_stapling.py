"""OCSP responses between us and OpenSSL or GnuTLS, stapled either way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.x509 import ocsp

from quic_tlshd.policy.registry import TrustAnchors
from quic_tlshd.policy.trust import TrustStore
from quic_tlshd.tls.alert import AlertDescription as A
from quic_tlshd.tls.alert import PeerAlertError, PeerError
from quic_tlshd.tls.parameters import ServerParameters
from tests.interop.party import NAME, client_parameters, secure, server_parameters
from tests.interop.programs import GnuTls, OpenSsl, needs
from tests.interop.test_openssl_gnutls import PROGRAMS, ROOT, Peer
from tests.peers.crafted import Crafted
from tests.peers.responder import respond

OPENSSL, GNUTLS = OpenSsl(), GnuTls()
ISSUED = ROOT.issue((NAME,))
END, ISSUER = Crafted(ISSUED.certificate, ISSUED.private_key), Crafted(ROOT.certificate, ROOT.private_key)
BY_NAME = ocsp.OCSPResponderEncoding.NAME  # GnuTLS finds no responder by its key
GOOD = respond(END, ISSUER, identified=BY_NAME)
REVOKED = respond(END, ISSUER, identified=BY_NAME, status=ocsp.OCSPCertStatus.REVOKED)


@pytest.fixture(params=PROGRAMS)
def peer(request: pytest.FixtureRequest, tmp_path: Path) -> Peer:
    return Peer(request.param, tmp_path)


class Verifier:
    """A VerifyChain like the daemon's, that remembers which responses came."""

    def __init__(self) -> None:
        self.store = TrustStore(TrustAnchors("the root", (ROOT.der,)))
        self.responses: tuple[bytes, ...] = ()

    def __call__(self, chain: tuple[bytes, ...], responses: tuple[bytes, ...]) -> CertificatePublicKeyTypes:
        self.responses = responses
        return self.store.verify_server(chain, NAME, datetime.now(UTC), responses)


STAPLING: dict[str, Callable[[Path], tuple[str, ...]]] = {
    "openssl": lambda path: ("-status_file", str(path)),
    "gnutls-cli": lambda path: ("--ocsp-response", str(path), "--ignore-ocsp-response-errors"),
}


@pytest.mark.parametrize(("response", "alert"), [(GOOD, None), (REVOKED, A.CERTIFICATE_REVOKED)])
async def test_what_they_staple_is_judged(peer: Peer, response: bytes, alert: A | None) -> None:
    path = peer.directory / "response.der"
    path.write_bytes(response)
    wish = replace(peer.with_identity(ISSUED), extra=STAPLING[peer.program.name](path))
    verifier = Verifier()
    parameters = replace(client_parameters(ROOT), verify_server=verifier)
    if alert is None:
        await peer.serves(wish, parameters)
    else:
        with pytest.raises(PeerError) as caught:
            await peer.serves(wish, parameters)
        assert caught.value.alert is alert
    assert verifier.responses == (response,)


def stapling(response: bytes) -> ServerParameters:
    parameters = server_parameters(ISSUED)
    choice = parameters.choose(None, ())
    certificate = replace(choice.certificates[0], ocsp_response=response)
    return replace(parameters, choose=lambda _name, _alpn: replace(choice, certificates=(certificate,)))


@needs("openssl")
async def test_openssl_reads_what_we_staple(tmp_path: Path) -> None:
    peer = Peer(OPENSSL, tmp_path)
    async with peer.connects(replace(peer.wish, extra=("-status",))) as (program, connection):
        await secure(connection, stapling(GOOD), ISSUED)
        await OPENSSL.exchange(program, connection, server=False)
        assert "OCSP Response Status: successful" in program.output
        assert "Cert Status: good" in program.output


@needs("openssl")
async def test_openssl_gets_nothing_that_it_did_not_ask_for(tmp_path: Path) -> None:
    peer = Peer(OPENSSL, tmp_path)
    async with peer.connects(peer.wish) as (program, connection):
        await secure(connection, stapling(GOOD), ISSUED)
        await OPENSSL.exchange(program, connection, server=False)
        assert "OCSP" not in program.output


@needs("gnutls-cli")
async def test_gnutls_judges_what_we_staple(tmp_path: Path) -> None:
    peer = Peer(GNUTLS, tmp_path)
    async with peer.connects(peer.wish) as (program, connection):
        await secure(connection, stapling(GOOD), ISSUED)
        await GNUTLS.exchange(program, connection, server=False)
        assert "OCSP status request" in program.output
    async with peer.connects(peer.wish) as (program, connection):
        with pytest.raises(PeerAlertError):
            await secure(connection, stapling(REVOKED), ISSUED)
        await program.until("revoked")
