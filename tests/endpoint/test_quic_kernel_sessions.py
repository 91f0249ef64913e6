"""Sessions over kernel QUIC sockets: the transport's ticket key on a server, what a client keeps in its socket."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

import pytest

from quic_tlshd.endpoint.interface import EndpointError, Settings
from quic_tlshd.endpoint.quic_kernel import QuicKernelEndpoint
from quic_tlshd.tls.alert import PeerError
from quic_tlshd.tls.client import client_handshake
from quic_tlshd.tls.engine import Engine
from quic_tlshd.tls.events import Complete, FindPsk, NewSession, SealTickets, Sign
from quic_tlshd.tls.iana import PskKeyExchangeMode
from quic_tlshd.tls.parameters import ClientParameters, Level, ServerChoice, ServerParameters
from quic_tlshd.tls.server import server_handshake
from quic_tlshd.tls.signature import certificate_verify_content, sign
from quic_tlshd.tls.ticket import Session
from quic_tlshd.worker.questions import answer_with
from quic_tlshd.worker.worker import keep_session
from tests.endpoint import driver
from tests.peers.quic_socket import SESSION_TICKET, SOL_QUIC, FakeQuicSocket, Pair
from tests.tls.resuming import TRANSPORT_PARAMETERS

KE = PskKeyExchangeMode.PSK_KE


def client_socket(kept: bytes = b"", wait: int = 5) -> FakeQuicSocket:
    sock = FakeQuicSocket(server=False, alpn="h3", receive_session_ticket=wait)
    if kept:
        sock.setsockopt(SOL_QUIC, SESSION_TICKET, kept)
    return sock


def server_socket(key: bytes = bytes(range(64))) -> FakeQuicSocket:
    return FakeQuicSocket(server=True, alpn="h3", listener_key=key, transport_parameters=TRANSPORT_PARAMETERS)


async def drive(engine: Engine, endpoint: QuicKernelEndpoint, settings: Settings) -> Complete:
    events = engine.start()
    while True:
        for event in events:
            if isinstance(event, Complete):
                await endpoint.finish()
                return event
            if isinstance(event, Sign):
                content = certificate_verify_content(event.transcript_hash, server=True)
                events = engine.answer(sign(driver.identity("server").private_key, event.scheme, content))
                break
            if isinstance(event, FindPsk | SealTickets):
                events = engine.answer(answer_with(settings.ticket_key, event))
                break
            await endpoint.apply(event)
        else:
            events = engine.receive(*await endpoint.receive())


async def client(endpoint: QuicKernelEndpoint, modes: tuple[PskKeyExchangeMode, ...]) -> Complete:
    settings = await endpoint.settings()
    parameters = ClientParameters(
        "client",
        driver.verify,  # type: ignore[arg-type]
        "server.example",
        settings.alpn,
        transport_parameters=settings.transport_parameters,
        session=Session.decode(settings.session),
        tickets=settings.session_wait > 0,
        psk_modes=modes,
        now=time.time,
    )
    engine = Engine(client_handshake(parameters))
    complete = await drive(engine, endpoint, settings)
    if settings.session_wait:
        await keep_session(engine, endpoint, settings.session_wait)
    return complete


async def server(endpoint: QuicKernelEndpoint) -> Complete:
    settings = await endpoint.settings()
    choice = ServerChoice("server", b"h3", driver.certificates("server"), tickets=settings.tickets)
    parameters = ServerParameters(lambda _name, _alpn: choice, settings.transport_parameters, now=time.time)
    return await drive(Engine(server_handshake(parameters)), endpoint, settings)


async def handshake(
    ours: FakeQuicSocket, theirs: FakeQuicSocket, modes: tuple[PskKeyExchangeMode, ...] = (KE,)
) -> tuple[bool, bytes]:
    """Whether both resumed a session; what the client's owner finds in its socket then."""
    with Pair(ours, theirs):
        ends = QuicKernelEndpoint(ours), QuicKernelEndpoint(theirs)
        async with asyncio.timeout(10):
            done = await asyncio.gather(client(ends[0], modes), server(ends[1]))
        assert ours.state == theirs.state == "established"
        for end in ends:
            end.close()
        assert done[0].resumed == done[1].resumed
        return done[0].resumed, ours.getsockopt(SOL_QUIC, SESSION_TICKET, 4096)


async def resumes(kept: bytes, key: bytes = bytes(range(64)), modes: tuple[PskKeyExchangeMode, ...] = (KE,)) -> bool:
    return (await handshake(client_socket(kept), server_socket(key), modes))[0]


@pytest.mark.parametrize("modes", [(KE,), (PskKeyExchangeMode.PSK_DHE_KE, KE)], ids=["psk_ke", "psk_dhe_ke"])
async def test_what_a_socket_keeps_resumes_the_next(modes: tuple[PskKeyExchangeMode, ...]) -> None:
    _, kept = await handshake(client_socket(), server_socket(), modes)
    assert Session.decode(kept) is not None
    assert await resumes(kept, modes=modes)


async def test_another_listener_has_another_key() -> None:
    _, kept = await handshake(client_socket(), server_socket())
    assert not await resumes(kept, bytes(64))


@pytest.mark.parametrize("kept", [b"another daemon's data, of whichever form" * 3, b"\x01" * 64])
async def test_what_others_kept_there_is_no_session(kept: bytes) -> None:
    assert not await resumes(kept)


async def test_what_is_kept_is_read_before_the_handshake_and_bound_to_the_name() -> None:
    session = Session.decode((await handshake(client_socket(), server_socket()))[1])
    assert session is not None
    assert session.server_name == "server.example"
    assert not await resumes(replace(session, server_name="other.example").encode())


async def test_settings() -> None:
    ours, theirs = client_socket(b"k" * 64, wait=3), server_socket()
    with Pair(ours, theirs):
        settings = await QuicKernelEndpoint(ours).settings()
        assert (settings.session, settings.ticket_key, settings.session_wait) == (b"k" * 64, b"", 3)
        assert settings.session_first
        settings = await QuicKernelEndpoint(theirs).settings()
        assert (settings.session, settings.ticket_key, settings.session_wait) == (b"", bytes(range(64)), 0)
        assert (settings.tickets, settings.early_data) == (1, False)


async def test_no_ticket_comes() -> None:
    """The wait ends, and the handshake was good all the same; nothing is kept."""
    ours, theirs = client_socket(), server_socket()
    with Pair(ours, theirs):
        endpoint = QuicKernelEndpoint(ours)
        await endpoint.settings()
        await endpoint.finish()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(endpoint.receive(), 0.1)


async def test_one_ticket_is_all_that_there_is() -> None:
    ours, theirs = client_socket(b"t" * 64), server_socket()
    with Pair(ours, theirs):
        endpoint = QuicKernelEndpoint(ours)
        await endpoint.finish()
        assert await endpoint.receive() == (Level.APP, b"t" * 64)
        with pytest.raises(EndpointError):
            await endpoint.receive()


async def test_a_server_that_sends_something_else_there() -> None:
    """The kernel takes any message for a ticket; the engine does not."""
    ours, theirs = client_socket(), server_socket()
    with Pair(ours, theirs):
        ends = QuicKernelEndpoint(ours), QuicKernelEndpoint(theirs)
        settings = await ends[0].settings()
        parameters = ClientParameters("client", driver.verify, "server.example", (b"h3",),  # type: ignore[arg-type]
                                      transport_parameters=b"", tickets=True, now=time.time)  # fmt: skip
        engine = Engine(client_handshake(parameters))
        async with asyncio.timeout(10):
            await asyncio.gather(drive(engine, ends[0], settings), server(ends[1]))
            ours._ticket, ours._ticket_ready = b"\x18\0\0\1\0" + bytes(60), True
            with pytest.raises(PeerError):
                await keep_session(engine, ends[0], 5)


async def test_a_kernel_without_that_option() -> None:
    class Older(FakeQuicSocket):
        def getsockopt(self, level: int, option: int, size: int, /) -> bytes:
            if option == SESSION_TICKET:
                raise OSError(92, "Protocol not available")
            return super().getsockopt(level, option, size)

    for is_server in (False, True):
        with Pair(Older(server=is_server, alpn="h3"), server_socket()) as pair:
            settings = await QuicKernelEndpoint(pair.client).settings()
            assert (settings.session, settings.ticket_key) == (b"", b"")


async def test_a_session_is_kept_in_the_socket() -> None:
    ours = client_socket()
    with Pair(ours, server_socket()):
        await QuicKernelEndpoint(ours).apply(NewSession(b"d" * 100))
        assert ours.getsockopt(SOL_QUIC, SESSION_TICKET, 4096) == b"d" * 100
