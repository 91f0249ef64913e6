"""Handshakes through the real daemon, both roles, and how each ends: at the peer, in DONE and in the log."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from errno import EACCES, EIO
from pathlib import Path

import pytest

from netlink.handshake import AuthMode
from netlink.upcall import UpcallConnection
from quic_tlshd.endpoint.userspace_protocol import MessageType
from quic_tlshd.tls.alert import AlertDescription as A
from quic_tlshd.tls.parameters import Level
from tests.peers import pki, quic_stack
from tests.peers.daemon import Daemon, entry, running

LONG_AGO = datetime.now(UTC) - timedelta(days=10)
YESTERDAY = datetime.now(UTC) - timedelta(days=1)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Daemon, Path]]:
    """A daemon whose entries serve whatever the tests below ask for, and the file of the root that it is trusted by."""
    directory = tmp_path_factory.mktemp("pki")
    root, stranger = pki.Authority("test root"), pki.Authority("a stranger")
    store = directory / "root.pem"
    root.write(store)
    client = root.issue(("client.example",), usage="client")
    entries = {
        "h3": entry(root.issue(("a.example", "127.0.0.1")), alpn="h3", server_name="a.example"),
        "h3-default": entry(root.issue(("default.example",)), alpn="h3"),
        "h3-wild": entry(root.issue(("*.wild.example",)), alpn="h3", server_name="*.wild.example"),
        "smb": entry(root.issue(("a.example",), key_type="ed25519"), alpn="smb", server_name="a.example"),
        "strict": entry(
            root.issue(("a.example",)), alpn="strict", server_name="a.example", mismatch_alert="no_application_protocol"
        ),
        "expired": entry(root.issue(("a.example",), not_before=LONG_AGO, not_after=YESTERDAY), alpn="expired"),
        "untrusted": entry(stranger.issue(("a.example",)), alpn="untrusted"),
        "request": entry(root.issue(("a.example",)), alpn="request", truststore=store, client_certificate="request"),
        "require": entry(root.issue(("a.example",)), alpn="require", truststore=store, client_certificate="require"),
        "foreign": entry(root.issue(("a.example",)), alpn="foreign", truststore=directory / "stranger.pem",
                         client_certificate="require"),
        "rsa": entry(root.issue(("a.example",), key_type="rsa"), alpn="rsa"),
        "p521": entry(root.issue(("a.example",), key_type="p521"), alpn="p521", groups="SECP384R1"),
    }  # fmt: skip
    stranger.write(directory / "stranger.pem")
    certificate, key = client.write(directory, "client")
    mine = {
        "x509.truststore": str(store),
        "x509.certificate": str(certificate),
        "x509.private_key": str(key),
    }
    with running(entries, client=mine) as daemon:
        yield daemon, store


@pytest.fixture
async def daemon(server: tuple[Daemon, Path]) -> AsyncIterator[UpcallConnection]:
    async with await UpcallConnection.open(server[0].socket) as connection:
        yield connection


async def test_both_sides_agree_on_everything(daemon: UpcallConnection) -> None:
    result = await quic_stack.handshake(daemon, daemon, peername="a.example", alpn=(b"h3", b"other"))
    assert (result.client.status, result.server.status) == (0, 0)
    assert result.client.alpn == result.server.alpn == result.client_stack.alpn == result.server_stack.alpn == b"h3"
    assert (result.server.entry, result.server.server_name) == ("h3", "a.example")
    assert result.client_stack.peer_transport_parameters == b"server parameters"
    assert result.server_stack.peer_transport_parameters == b"client parameters"
    for level in (Level.HANDSHAKE, Level.APP):
        for ours, theirs in (
            (MessageType.SEND_SECRET, MessageType.RECEIVE_SECRET),
            (MessageType.RECEIVE_SECRET, MessageType.SEND_SECRET),
        ):
            assert result.client_stack.secrets[ours, level] == result.server_stack.secrets[theirs, level]
    assert len(result.client_stack.secrets) == len({secret for _, secret in result.client_stack.secrets.values()}) == 4


@pytest.mark.parametrize(
    ("alpn", "peername", "chosen"),
    [
        ((b"h3",), "a.example", "h3"),
        ((b"smb",), "a.example", "smb"),
        ((b"h3",), "b.wild.example", "h3-wild"),
        ((b"h3",), "default.example", "h3-default"),
        ((b"nothing", b"smb"), "a.example", "smb"),
        ((b"rsa",), "a.example", "rsa"),
        ((b"p521",), "a.example", "p521"),
    ],
)
async def test_alpn_and_server_name_select_the_entry(
    daemon: UpcallConnection, alpn: tuple[bytes, ...], peername: str, chosen: str
) -> None:
    result = await quic_stack.handshake(daemon, daemon, alpn=alpn, peername=peername)
    assert (result.client.status, result.server.status, result.server.entry) == (0, 0, chosen)


async def test_the_transports_own_list_decides_what_is_served(daemon: UpcallConnection) -> None:
    result = await quic_stack.handshake(
        daemon, daemon, alpn=(b"h3", b"smb"), server_alpn=(b"smb",), peername="a.example"
    )
    assert (result.server.status, result.server.alpn, result.server.entry) == (0, b"smb", "smb")


async def test_a_numeric_peer_name_is_verified_as_an_address_and_not_sent(daemon: UpcallConnection) -> None:
    result = await quic_stack.handshake(daemon, daemon, alpn=(b"h3",), peername="127.0.0.1")
    # No server name was sent, so the default entry answered, whose certificate is for a name only.
    assert result.server.entry == "h3-default"
    assert (result.client.status, result.client.alert) == (EACCES, A.BAD_CERTIFICATE)


@pytest.mark.parametrize("alpn", [b"request", b"require"])
async def test_a_client_certificate_that_is_asked_for_is_shown_and_verified(
    daemon: UpcallConnection, alpn: bytes
) -> None:
    result = await quic_stack.handshake(daemon, daemon, alpn=(alpn,), peername="a.example", auth_mode=AuthMode.X509)
    assert (result.client.status, result.server.status) == (0, 0)
    assert len(result.server.peer_chain) == 1


async def test_an_unauth_client_shows_no_certificate(daemon: UpcallConnection) -> None:
    result = await quic_stack.handshake(daemon, daemon, alpn=(b"request",), peername="a.example")
    assert (result.client.status, result.server.status) == (0, 0)
    assert result.server.peer_chain == ()


async def test_a_transport_may_require_a_client_certificate(daemon: UpcallConnection) -> None:
    result = await quic_stack.handshake(daemon, daemon, alpn=(b"request",), peername="a.example", certificate_request=2)
    assert (result.server.status, result.server.alert) == (EACCES, A.CERTIFICATE_REQUIRED)


async def test_a_certificate_that_nobody_could_verify_is_not_asked_for(daemon: UpcallConnection) -> None:
    result = await quic_stack.handshake(daemon, daemon, alpn=(b"h3",), peername="a.example", certificate_request=2)
    assert (result.server.status, result.server.alert) == (EIO, A.INTERNAL_ERROR)
    assert result.server.reason is not None
    assert "no trust store" in result.server.reason


REFUSED_BY_THE_CLIENT = [
    pytest.param(b"h3", "other.example", A.BAD_CERTIFICATE, "other.example", id="wrong name"),
    pytest.param(b"expired", "a.example", A.CERTIFICATE_EXPIRED, "expired", id="expired"),
    pytest.param(b"untrusted", "a.example", A.UNKNOWN_CA, "", id="untrusted root"),
]


@pytest.mark.parametrize(("alpn", "peername", "alert", "why"), REFUSED_BY_THE_CLIENT)
async def test_what_the_client_refuses(
    server: tuple[Daemon, Path], daemon: UpcallConnection, alpn: bytes, peername: str, alert: A, why: str
) -> None:
    before = len(server[0].log())
    result = await quic_stack.handshake(daemon, daemon, alpn=(alpn,), peername=peername)
    assert (result.client.status, result.client.alert) == (EACCES, alert)
    assert (result.server.status, result.server.alert) == (EACCES, alert)  # received, and reported as such
    assert result.client_stack.alert == alert
    assert result.server_stack.alert is None
    client, other = sorted(server[0].log()[before:], key=lambda line: "as server" in line)
    assert "as client" in client
    assert "as server" in other
    for line in (client, other):
        assert f"ALPN {alpn.decode()}" in line
        assert quic_stack.PEER in line  # the peer, as the transport named it
        assert alert.label in line
        assert "EACCES" in line
    assert why in client
    assert "received" in other


REFUSED_BY_THE_SERVER = [
    pytest.param(b"unknown", AuthMode.UNAUTH, A.NO_APPLICATION_PROTOCOL, id="unknown ALPN"),
    pytest.param(b"smb", AuthMode.UNAUTH, A.UNRECOGNIZED_NAME, id="unknown name"),
    pytest.param(b"strict", AuthMode.UNAUTH, A.NO_APPLICATION_PROTOCOL, id="unknown name, as its entry says"),
    pytest.param(b"require", AuthMode.UNAUTH, A.CERTIFICATE_REQUIRED, id="no client certificate"),
    pytest.param(b"foreign", AuthMode.X509, A.UNKNOWN_CA, id="untrusted client certificate"),
]


@pytest.mark.parametrize(("alpn", "auth_mode", "alert"), REFUSED_BY_THE_SERVER)
async def test_what_the_server_refuses(
    server: tuple[Daemon, Path], daemon: UpcallConnection, alpn: bytes, auth_mode: AuthMode, alert: A
) -> None:
    before = len(server[0].log())
    peername = "a.example" if alpn in (b"require", b"foreign") else "b.example"
    result = await quic_stack.handshake(daemon, daemon, alpn=(alpn,), peername=peername, auth_mode=auth_mode)
    assert (result.server.status, result.server.alert) == (EACCES, alert)
    assert result.server_stack.alert == alert
    lines = [line for line in server[0].log()[before:] if "as server" in line]
    assert len(lines) == 1
    assert alert.label in lines[0]
    assert alpn.decode() in lines[0]


async def test_a_client_is_done_before_the_server_has_judged_its_certificate(daemon: UpcallConnection) -> None:
    """TLS 1.3: the client's handshake ends with its Finished; that it was refused it hears afterwards."""
    result = await quic_stack.handshake(daemon, daemon, alpn=(b"require",), peername="a.example")
    assert result.client.status == 0
    assert result.server.status == EACCES
