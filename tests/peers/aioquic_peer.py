"""aioquic as the other end: its client and server with its own TLS, and protocols that keep what happens to them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aioquic.asyncio
from aioquic.asyncio import QuicConnectionProtocol
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.events import ConnectionTerminated, QuicEvent
from cryptography.hazmat.primitives.serialization import Encoding

from tests.peers.pki import Authority, Issued

HOST = "127.0.0.1"
TIMEOUT = 20.0  # seconds, for whatever one waits for


class Recorder(QuicConnectionProtocol):
    """A protocol that keeps its events; `ended` is the last of them."""

    def __init__(self, quic: QuicConnection, stream_handler: Any = None) -> None:
        super().__init__(quic, stream_handler)
        self.events: list[QuicEvent] = []
        self.ended: asyncio.Future[ConnectionTerminated] = asyncio.get_running_loop().create_future()

    def quic_event_received(self, event: QuicEvent) -> None:
        self.events.append(event)
        if isinstance(event, ConnectionTerminated) and not self.ended.done():
            self.ended.set_result(event)
        super().quic_event_received(event)


class Recorders(list[Recorder]):
    """A create_protocol that keeps the protocols it made."""

    def __call__(self, quic: QuicConnection, stream_handler: Any = None) -> Recorder:
        self.append(Recorder(quic, stream_handler))
        return self[-1]

    async def ended(self) -> ConnectionTerminated:
        """How the only connection ended."""
        while not self:
            await asyncio.sleep(0.01)
        (recorder,) = self
        return await asyncio.wait_for(asyncio.shield(recorder.ended), TIMEOUT)


def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A stream handler: sends back what was sent, once it is complete."""

    async def answer() -> None:
        writer.write(await reader.read())
        writer.write_eof()

    task = asyncio.get_running_loop().create_task(answer())
    _tasks.add(task)
    task.add_done_callback(_tasks.discard)


_tasks: set[asyncio.Task[None]] = set()


async def ask(protocol: QuicConnectionProtocol, data: bytes) -> bytes:
    """What the echo server says to `data`, on a stream of its own."""
    async with asyncio.timeout(TIMEOUT):
        reader, writer = await protocol.create_stream()
        writer.write(data)
        writer.write_eof()
        return await reader.read()


def client_configuration(trust: Authority, server_name: str, *alpn: str, **rest: Any) -> QuicConfiguration:
    """For aioquic's own client, which verifies the server itself."""
    return QuicConfiguration(alpn_protocols=list(alpn), server_name=server_name, cadata=trust.pem, **rest)


def shown_certificate(protocol: QuicConnectionProtocol) -> bytes:
    """DER of the end certificate that aioquic's own client has verified."""
    return bytes(protocol._quic.tls._peer_certificate.public_bytes(Encoding.DER))


@asynccontextmanager
async def own_server(issued: Issued, directory: Path, *alpn: str, **rest: Any) -> AsyncIterator[tuple[int, Recorders]]:
    """aioquic's server with aioquic's TLS: its port, and the protocols of its connections."""
    configuration = QuicConfiguration(is_client=False, alpn_protocols=list(alpn))
    configuration.load_cert_chain(*issued.write(directory, "own"))
    made = Recorders()
    async with closing(
        await aioquic.asyncio.serve(
            HOST, 0, configuration=configuration, create_protocol=made, stream_handler=echo, **rest
        )
    ) as server:
        yield server._transport.get_extra_info("sockname")[1], made


@asynccontextmanager
async def closing(server: Any) -> AsyncIterator[Any]:
    """The server, closed at the end together with the timers of its connections."""
    try:
        yield server
    finally:
        protocols = set(server._protocols.values())
        server.close()
        for protocol in protocols:
            if protocol._timer is not None:
                protocol._timer.cancel()


async def refusal(connect: Callable[..., Any], port: int, **rest: Any) -> tuple[Recorder, ConnectionError]:
    """A connection that must fail, at its end, and what `connect` raises."""
    made = Recorders()
    error = ConnectionError()
    try:
        async with asyncio.timeout(TIMEOUT), connect(HOST, port, create_protocol=made, **rest):
            with contextlib.suppress(ConnectionError):  # a client that is done can be refused afterwards
                await made[0].ping()
                raise AssertionError("the connection was accepted")
    except ConnectionError as caught:
        error = caught
    (recorder,) = made
    assert recorder.ended.done()
    return recorder, error
