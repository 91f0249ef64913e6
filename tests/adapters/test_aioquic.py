"""aioquic through the daemon, against aioquic with its own TLS: who is served with what, and how failures look."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime, timedelta
from errno import EACCES
from pathlib import Path
from typing import Any

import aioquic.asyncio
import pytest
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import HandshakeCompleted, ProtocolNegotiated
from aioquic.quic.logger import QuicLogger
from aioquic.quic.packet import QuicProtocolVersion
from aioquic.tls import SessionTicket

from quic_tlshd.adapters.aioquic import connect, connection_of, serve
from quic_tlshd.tls.alert import AlertDescription
from quic_tlshd.tls.parameters import ClientCertificate
from tests.peers.aioquic_peer import (
    HOST,
    Recorders,
    ask,
    client_configuration,
    closing,
    echo,
    own_server,
    refusal,
    shown_certificate,
)
from tests.peers.daemon import Daemon
from tests.peers.pki import Authority, Issued

CRYPTO_ERROR = 0x100
SERVED = ("h3", "smb", "mutual")


@asynccontextmanager
async def served(daemon: Daemon, *alpn: str, **rest: Any) -> AsyncIterator[tuple[int, Recorders]]:
    """Our server: its port, and the protocols of its connections."""
    configuration = QuicConfiguration(is_client=False, alpn_protocols=list(alpn or SERVED))
    made = Recorders()
    async with closing(
        await serve(
            HOST,
            0,
            configuration=configuration,
            create_protocol=made,
            stream_handler=echo,
            daemon=daemon.socket,
            **rest,
        )
    ) as server:
        yield server.port, made


def ours(daemon: Daemon, port: int, *alpn: str, **rest: Any) -> AbstractAsyncContextManager[Any]:
    configuration = QuicConfiguration(alpn_protocols=list(alpn), server_name=rest.pop("server_name", "localhost"))
    return connect(HOST, port, configuration=configuration, daemon=daemon.socket, **rest)


@pytest.mark.parametrize("alpn", ["h3", "smb"])
async def test_each_protocol_is_served_with_its_own_certificate(
    daemon: Daemon, root: Authority, identities: dict[str, Issued], alpn: str
) -> None:
    async with served(daemon) as (port, made):
        configuration = client_configuration(root, "localhost", "other", alpn)
        async with aioquic.asyncio.connect(HOST, port, configuration=configuration) as protocol:
            assert shown_certificate(protocol) == identities[alpn].chain[0]
            assert await ask(protocol, b"ping" * 10_000) == b"ping" * 10_000
        (server,) = made
        done = connection_of(server).handshake
        assert done is not None
        assert (done.status, done.entry, done.alpn, done.server_name) == (0, alpn, alpn.encode(), "localhost")
        assert done.peer_chain == ()
        kinds = [type(event) for event in server.events]
        assert kinds.index(ProtocolNegotiated) < kinds.index(HandshakeCompleted)
        assert [e.alpn_protocol for e in server.events if isinstance(e, HandshakeCompleted)] == [alpn]


async def test_a_client_resumes_its_session(daemon: Daemon, root: Authority) -> None:
    """The daemon's tickets go out on the connection, and come back to it on another."""
    kept: asyncio.Queue[SessionTicket] = asyncio.Queue()
    async with served(daemon) as (port, made):
        for resumed in (False, True, True):
            configuration = client_configuration(root, "localhost", "h3")
            configuration.session_ticket = await asyncio.wait_for(kept.get(), 10) if resumed else None
            before = len(daemon.log())
            async with aioquic.asyncio.connect(
                HOST, port, configuration=configuration, session_ticket_handler=kept.put_nowait
            ) as protocol:
                assert await ask(protocol, b"ping") == b"ping"
                assert protocol._quic.tls.session_resumed is resumed
            (line,) = daemon.lines_since(before)
            assert ("session resumed" in line) is resumed
        done = connection_of(made[-1]).handshake
        assert done is not None
        assert (done.status, done.entry, done.alpn) == (0, "h3", b"h3")


async def test_an_unknown_protocol_is_refused_and_logged_once(daemon: Daemon, root: Authority) -> None:
    before = len(daemon.log())
    async with served(daemon) as (port, made):
        client, _ = await refusal(
            aioquic.asyncio.connect, port, configuration=client_configuration(root, "localhost", "gopher")
        )
        event = client.ended.result()
        assert event.error_code == CRYPTO_ERROR + AlertDescription.NO_APPLICATION_PROTOCOL
        assert event.reason_phrase == "no_application_protocol"
        (server,) = made
        done = connection_of(server).handshake
        assert done is not None
        assert (done.status, done.alert) == (EACCES, AlertDescription.NO_APPLICATION_PROTOCOL)
    (line,) = daemon.lines_since(before)
    peer = f"{HOST} port "
    assert peer in line
    assert "gopher" in line
    assert "no_application_protocol sent" in line


async def test_a_client_that_distrusts_us_is_logged_with_its_alert(daemon: Daemon) -> None:
    before = len(daemon.log())
    async with served(daemon) as (port, made):
        stranger = Authority("somebody else's root")
        await refusal(aioquic.asyncio.connect, port, configuration=client_configuration(stranger, "localhost", "h3"))
        event = await made.ended()
        done = connection_of(made[0]).handshake
        assert done is not None
        assert event.error_code == CRYPTO_ERROR + (done.alert or 0)
        assert done.status != 0
    (line,) = daemon.lines_since(before)
    assert "received" in line


async def test_our_client_verifies_the_server(daemon: Daemon, root: Authority, tmp_path: Path) -> None:
    issued = root.issue(("localhost",), intermediate=True)
    async with own_server(issued, tmp_path, "h3") as (port, _), ours(daemon, port, "h3", "h2") as protocol:
        assert await ask(protocol, b"hello") == b"hello"
        done = connection_of(protocol).handshake
        assert done is not None
        assert (done.status, done.entry, done.alpn) == (0, "authenticate.client", b"h3")
        assert done.peer_chain == issued.chain


async def test_the_servers_flight_starts_in_the_datagram_of_its_server_hello(daemon: Daemon, root: Authority) -> None:
    log = QuicLogger()
    async with served(daemon) as (port, _):
        configuration = client_configuration(root, "localhost", "smb", quic_logger=log)
        async with aioquic.asyncio.connect(HOST, port, configuration=configuration):
            pass
    datagrams: list[list[str]] = []
    for event in log.to_dict()["traces"][0]["events"]:
        if event["name"] == "transport:datagrams_received":
            datagrams.append([])
        elif event["name"] == "transport:packet_received":
            crypto = any(frame["frame_type"] == "crypto" for frame in event["data"]["frames"])
            datagrams[-1] += [event["data"]["header"]["packet_type"]] if crypto else []
    assert next(packets for packets in datagrams if packets) == ["initial", "handshake"]


def _expired(root: Authority) -> Issued:
    now = datetime.now(UTC)
    return root.issue(("localhost",), not_before=now - timedelta(days=9), not_after=now - timedelta(days=1))


@pytest.mark.parametrize(
    ("issue", "alert"),
    [
        (lambda root: root.issue(("elsewhere.example",)), AlertDescription.BAD_CERTIFICATE),
        (_expired, AlertDescription.CERTIFICATE_EXPIRED),
        (lambda _: Authority("stranger").issue(("localhost",)), AlertDescription.UNKNOWN_CA),
        (lambda root: root.issue(("localhost",), usage="client"), AlertDescription.UNSUPPORTED_CERTIFICATE),
    ],
    ids=["wrong name", "expired", "untrusted root", "a client's certificate"],
)
async def test_a_bad_server_certificate_is_refused(
    daemon: Daemon, root: Authority, tmp_path: Path, issue: Callable[[Authority], Issued], alert: AlertDescription
) -> None:
    before = len(daemon.log())
    async with own_server(issue(root), tmp_path, "h3") as (port, made):
        configuration = QuicConfiguration(alpn_protocols=["h3"], server_name="localhost")
        client, error = await refusal(connect, port, configuration=configuration, daemon=daemon.socket)
        done = connection_of(client).handshake
        assert done is not None
        assert (done.status, done.alert) == (EACCES, alert)
        assert client.ended.result().error_code == CRYPTO_ERROR + alert
        assert (await made.ended()).error_code == CRYPTO_ERROR + alert
        assert str(error) == done.reason
    (line,) = daemon.lines_since(before)
    assert f"localhost ({HOST} port {port})" in line
    assert f"{alert.label} sent" in line
    assert "EACCES" in line


async def test_the_daemon_shows_the_client_certificate_to_a_server_that_requires_one(
    daemon: Daemon, identities: dict[str, Issued]
) -> None:
    async with served(daemon) as (port, made), ours(daemon, port, "mutual", present_certificate=True) as protocol:
        assert await ask(protocol, b"it is me") == b"it is me"
        done = connection_of(made[0]).handshake
        assert done is not None
        assert done.peer_chain == identities["client"].chain


async def test_a_missing_client_certificate_is_refused(daemon: Daemon, root: Authority) -> None:
    before = len(daemon.log())
    async with served(daemon) as (port, _):
        configuration = client_configuration(root, "localhost", "mutual")
        client, _ = await refusal(aioquic.asyncio.connect, port, configuration=configuration)
        assert client.ended.result().error_code == CRYPTO_ERROR + AlertDescription.CERTIFICATE_REQUIRED
    (line,) = daemon.lines_since(before)
    assert "certificate_required sent" in line


async def test_no_tls_of_aioquic_is_used(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("aioquic's TLS was constructed")

    monkeypatch.setattr("aioquic.tls.Context.__init__", refuse)
    async with served(daemon) as (port, _), ours(daemon, port, "h3") as protocol:
        assert await ask(protocol, b"hello") == b"hello"


async def test_a_hello_retry_request(daemon: Daemon) -> None:
    before = len(daemon.log())
    async with served(daemon, "picky") as (port, _), ours(daemon, port, "picky") as protocol:
        assert await ask(protocol, b"hello") == b"hello"
    assert all("SECP384R1" in line for line in daemon.lines_since(before, 2))


async def test_retry(daemon: Daemon, root: Authority) -> None:
    before = len(daemon.log())
    async with served(daemon, retry=True) as (port, _):
        configuration = client_configuration(root, "localhost", "h3")
        async with aioquic.asyncio.connect(HOST, port, configuration=configuration) as protocol:
            assert await ask(protocol, b"hello") == b"hello"
        async with ours(daemon, port, "h3") as protocol:
            assert await ask(protocol, b"hello") == b"hello"
    # Two at the server and one at the client: the ClientHello after Retry is the one before it.
    assert len(daemon.lines_since(before, 3)) == 3


V1, V2 = QuicProtocolVersion.VERSION_1, QuicProtocolVersion.VERSION_2
UNKNOWN = 0x1A2A3A4A  # RFC 9000 section 15 reserves it to provoke Version Negotiation


@pytest.mark.parametrize(
    ("first", "supported"),
    [(V2, [V2]), (V1, [V1, V2]), (V1, [V2, V1]), (UNKNOWN, [UNKNOWN, V1])],
    ids=["version 2", "version 1", "version 1 that would rather be 2", "Version Negotiation"],
)
async def test_quic_versions(daemon: Daemon, root: Authority, tmp_path: Path, first: int, supported: list[int]) -> None:
    rest = {"original_version": first, "supported_versions": supported}
    async with served(daemon) as (port, _):
        configuration = client_configuration(root, "localhost", "h3", **rest)
        async with aioquic.asyncio.connect(HOST, port, configuration=configuration) as protocol:
            assert await ask(protocol, b"hello") == b"hello"
    async with own_server(root.issue(("localhost",)), tmp_path, "h3") as (port, _):
        configuration = QuicConfiguration(alpn_protocols=["h3"], server_name="localhost", **rest)
        async with connect(HOST, port, configuration=configuration, daemon=daemon.socket) as protocol:
            assert await ask(protocol, b"hello") == b"hello"


async def test_many_handshakes_at_once(daemon: Daemon, root: Authority) -> None:
    async with served(daemon) as (port, made):

        async def one(alpn: str) -> str:
            configuration = client_configuration(root, "localhost", alpn)
            async with aioquic.asyncio.connect(HOST, port, configuration=configuration) as protocol:
                assert await ask(protocol, alpn.encode()) == alpn.encode()
            return alpn

        alpns = ["h3", "smb"] * 25
        async with asyncio.timeout(60):
            assert await asyncio.gather(*map(one, alpns)) == alpns
        entries = [done.entry for each in made if (done := connection_of(each).handshake) is not None]
        assert sorted(map(str, entries)) == sorted(alpns)


async def test_who_decides_what_the_daemon_decides_is_told_so(daemon: Daemon, identities: dict[str, Issued]) -> None:
    with_key = QuicConfiguration(is_client=False, private_key=identities["h3"].private_key)
    with pytest.raises(ValueError, match="private_key"):
        await serve(HOST, 0, configuration=with_key, daemon=daemon.socket)
    with pytest.raises(ValueError, match="verify_mode"):
        async with connect(HOST, 1, configuration=QuicConfiguration(verify_mode=0), daemon=daemon.socket):
            pass


async def test_a_server_can_ask_for_client_certificates_itself(daemon: Daemon, root: Authority) -> None:
    async with served(daemon, client_certificate=ClientCertificate.REQUEST) as (port, made):
        configuration = client_configuration(root, "localhost", "mutual")
        async with aioquic.asyncio.connect(HOST, port, configuration=configuration) as protocol:
            assert await ask(protocol, b"nobody") == b"nobody"
        done = connection_of(made[0]).handshake
        assert done is not None
        assert done.peer_chain == ()
