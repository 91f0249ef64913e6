"""The demo's client: aioquic as it is, with its own TLS. It verifies the server and looks at what it was shown."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.h3.connection import H3Connection
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import ConnectionTerminated, ProtocolNegotiated, QuicEvent
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

HOST = "127.0.0.1"
TIMEOUT = 10.0  # seconds, for one visit


@dataclass(frozen=True)
class Visit:
    """What came of a connection. seconds: what the handshake took."""

    certificate: x509.Certificate
    seconds: float
    answer: str


class _Client(QuicConnectionProtocol):
    """Keeps the end of the connection, and HTTP/3's answer."""

    def __init__(self, *arguments: Any, **rest: Any) -> None:
        super().__init__(*arguments, **rest)
        self.end: ConnectionTerminated | None = None
        self.http: H3Connection | None = None
        self.status = ""
        self.body = b""
        self.answered = asyncio.Event()

    def quic_event_received(self, event: QuicEvent) -> None:
        if isinstance(event, ConnectionTerminated):
            self.end = event
            self.answered.set()
        if isinstance(event, ProtocolNegotiated) and event.alpn_protocol == "h3":
            self.http = H3Connection(self._quic)
        if self.http is None:
            super().quic_event_received(event)  # for StreamReaders
            return
        for each in self.http.handle_event(event):
            if isinstance(each, HeadersReceived):
                self.status = dict(each.headers).get(b":status", b"").decode()
            if isinstance(each, DataReceived):
                self.body += each.data
            if isinstance(each, HeadersReceived | DataReceived) and each.stream_ended:
                self.answered.set()


class RefusedError(Exception):
    """The connection was ended by somebody; `end` tells how."""

    def __init__(self, end: ConnectionTerminated) -> None:
        super().__init__(f"the connection ended with error {end.error_code:#x} {end.reason_phrase}".rstrip())
        self.end = end


async def fetch(port: int, trust: x509.Certificate, server_name: str) -> Visit:
    """GET / over HTTP/3. RefusedError or TimeoutError if it can't be had."""
    async with _connected(port, trust, server_name, "h3") as (protocol, seconds):
        assert protocol.http is not None
        stream_id = protocol._quic.get_next_available_stream_id()
        request = {":method": "GET", ":scheme": "https", ":authority": f"{server_name}:{port}", ":path": "/"}
        headers = [(name.encode(), value.encode()) for name, value in request.items()]
        protocol.http.send_headers(stream_id, headers, end_stream=True)
        protocol.transmit()
        await protocol.answered.wait()
        if protocol.end is not None:
            raise RefusedError(protocol.end)
        answer = protocol.body.decode() if protocol.status == "200" else f"status {protocol.status}"
        return Visit(_shown(protocol), seconds, answer)


async def greet(port: int, trust: x509.Certificate, server_name: str, alpn: str) -> Visit:
    """Say a name on a stream and take the answer. RefusedError or TimeoutError if there is none."""
    async with _connected(port, trust, server_name, alpn) as (protocol, seconds):
        reader, writer = await protocol.create_stream()
        writer.write(b"client")
        writer.write_eof()
        return Visit(_shown(protocol), seconds, (await reader.read()).decode())


async def be_refused(port: int, trust: x509.Certificate, server_name: str, alpn: str) -> ConnectionTerminated:
    """Ask for a protocol that nobody has; how the connection ended. RuntimeError if it didn't."""
    try:
        async with _connected(port, trust, server_name, alpn):
            raise RuntimeError(f"a connection for {alpn} was accepted")
    except RefusedError as refused:
        return refused.end


@asynccontextmanager
async def _connected(
    port: int, trust: x509.Certificate, server_name: str, alpn: str
) -> AsyncIterator[tuple[_Client, float]]:
    """A connection, and the seconds that its handshake took."""
    configuration = QuicConfiguration(
        alpn_protocols=[alpn], server_name=server_name, cadata=trust.public_bytes(Encoding.PEM)
    )
    protocols: list[_Client] = []

    def create(*arguments: Any, **rest: Any) -> _Client:
        protocols.append(_Client(*arguments, **rest))
        return protocols[-1]

    began = time.perf_counter()
    try:
        async with (
            asyncio.timeout(TIMEOUT),
            connect(HOST, port, configuration=configuration, create_protocol=create) as protocol,
        ):
            assert isinstance(protocol, _Client)
            yield protocol, time.perf_counter() - began
    except ConnectionError as error:
        end = protocols[0].end if protocols else None
        if end is None:
            raise
        raise RefusedError(end) from error


def _shown(protocol: QuicConnectionProtocol) -> x509.Certificate:
    """The end certificate that aioquic has verified."""
    certificate = protocol._quic.tls._peer_certificate
    assert certificate is not None
    return certificate
