"""Certificates, in all modes that a consumer in the kernel can ask for; the connection then is the kernel's TLS."""

from __future__ import annotations

import errno

import pytest

from tests.vm.guest import keyring, netns
from tests.vm.guest.hsgen import Kind
from tests.vm.guest.scenario import Credentials, Handlers, exchange, handshake, refusal

BY_SERIAL = "tlshd 1.4.0 reads the certificate and then shows another, which is none; is it mended?"
OF_THE_KEYRING = "keyring.test"  # a server name that only a certificate in a keyring has


def test_client_without_certificate(pair: Handlers) -> None:
    """The client shows no certificate and verifies the server's."""
    with netns.connection() as (client, server):
        ours, theirs = handshake(client, server, Kind.CLIENT_ANON)
        assert ours.succeeded, ours
        assert theirs.succeeded, theirs
        assert theirs.peerid == 0, "NFSD would take the client as authenticated"
        exchange(client, server)


def test_both_certificates(pair: Handlers) -> None:
    with netns.connection() as (client, server):
        ours, theirs = handshake(client, server, Kind.CLIENT_X509)
        assert ours.succeeded, ours
        assert theirs.succeeded, theirs
        assert theirs.peerid != 0, "NFSD would take the client as not authenticated"
        exchange(client, server)


def test_certificate_not_requested(pair: Handlers) -> None:
    """The client has a certificate, and the server has no use for one. tlshd asks always, and trusts the system's
    authorities where it is told of no others."""
    with (
        pair.server.configured("authenticate.server", {"x509.truststore": "", "x509.crl": ""}),
        netns.connection() as (client, server),
    ):
        ours, theirs = handshake(client, server, Kind.CLIENT_X509)
        if pair.server.name == "tlshd":
            assert theirs.status == -errno.EACCES, theirs
            return
        assert ours.succeeded, ours
        assert theirs.succeeded, theirs
        assert theirs.peerid == 0
        exchange(client, server)


def test_client_certificate_by_serial(pair: Handlers, credentials: Credentials) -> None:
    """The certificate and key that the request names are shown, and those of the configuration are not."""
    issued = credentials.authority.issue((netns.NAMES["client"],), usage="client")
    with (
        pair.client.configured("authenticate.client", credentials.showing("stranger")),
        keyring.made("of the request") as ring,
        keyring.credential(issued, ring) as serials,
        netns.connection() as (client, server),
    ):
        ours, theirs = handshake(client, server, Kind.CLIENT_X509, theirs={"keyring": 0}, keyring=ring, **serials)
        if pair.client.name == "tlshd":
            assert ours.status == -errno.EACCES, BY_SERIAL
            return
        assert ours.succeeded, ours
        assert theirs.succeeded, theirs
        assert theirs.peerid != 0
        exchange(client, server)


def test_server_certificate_by_serial(pair: Handlers, credentials: Credentials) -> None:
    issued = credentials.authority.issue((OF_THE_KEYRING,))
    with (
        keyring.made("of the request") as ring,
        keyring.credential(issued, ring) as serials,
        netns.connection() as (client, server),
    ):
        ours, theirs = handshake(client, server, Kind.CLIENT_X509, OF_THE_KEYRING, theirs={"keyring": ring, **serials})
        if pair.server.name == "tlshd":
            assert theirs.status == -errno.EACCES, BY_SERIAL
            return
        assert ours.succeeded, ours
        assert theirs.succeeded, theirs
        exchange(client, server)


@pytest.mark.parametrize("kind", [Kind.CLIENT_ANON, Kind.CLIENT_X509], ids=["no certificate", "both"])
def test_wrong_name(pair: Handlers, kind: Kind) -> None:
    """The server is not who the consumer wants: the client's side may not report success."""
    reasons = {"quic-tlshd": "is for 'server.test', not for 'another.test'", "tlshd": "Certificate owner unexpected."}
    with refusal(pair.client, reasons), netns.connection() as (client, server):
        ours, _ = handshake(client, server, kind, netns.ANOTHER_NAME)
    assert ours.status == -errno.EACCES, ours
