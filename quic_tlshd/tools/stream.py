"""A TCP connection whose TLS is ours from the first record to close_notify: an `Endpoint`, and then a stream."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable
from contextlib import suppress

from quic_tlshd.endpoint.interface import EndpointError, Settings, TransportEvent
from quic_tlshd.tls.alert import AlertDescription, PeerAlertError
from quic_tlshd.tls.connection import Connection
from quic_tlshd.tls.engine import Engine
from quic_tlshd.tls.events import (
    EarlyDataAccepted,
    EarlyDataOffered,
    EarlyDataRefused,
    InstallSecret,
    NewSession,
    PeerRecordSizeLimit,
    SendMessage,
    SkipEarlyData,
)
from quic_tlshd.tls.extensions import MAX_RECORD_SIZE
from quic_tlshd.tls.parameters import Direction, Level
from quic_tlshd.tls.record import HEADER, ContentType, RecordLayer

_DRAIN = 1 << 25  # bytes that are thrown away at the end: the longest message that a peer may begin, and more
_LINGER = 20.0  # seconds for that


class TlsStream:
    """See `endpoint.interface.Endpoint` for the methods up to `close`; after `go_on` those below it work.

    record_size_limit: the largest record that we take. max_send_frag: bytes of content that we put into a record at
    most. padding: see `RecordLayer`. timeout: seconds to wait for data. early_data: what a client sends first, as early
    data if it can be.
    Reading and writing raise EndpointError when the connection breaks, PeerError and PeerAlertError as the handshake
    does.
    """

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        record_size_limit: int = MAX_RECORD_SIZE,
        max_send_frag: int | None = None,
        padding: int = 1,
        timeout: float | None = None,
        early_data: bytes = b"",
    ) -> None:
        self._early_received = b""
        self._early_data = early_data
        self._early_limit = 0
        self._reader, self._writer = reader, writer
        self._records = RecordLayer(padding)
        self._record_size_limit = record_size_limit
        self._max_send = MAX_RECORD_SIZE if max_send_frag is None else max_send_frag + 1
        self._records.send_limit = self._max_send
        self._timeout = timeout
        self._has_ended = False  # we, with close_notify or an alert
        self._ended = False  # the peer, with close_notify

    async def settings(self) -> Settings:
        return Settings(record_size_limit=self._record_size_limit)

    async def receive(self) -> tuple[Level, bytes]:
        await self._flush()
        while True:
            fragment = self._records.open(*await self._record())
            if fragment is None:
                continue
            if fragment.content_type is ContentType.HANDSHAKE:
                return self._records.level, fragment.content
            self._early_received += fragment.content

    async def apply(self, event: TransportEvent) -> None:
        if isinstance(event, InstallSecret):
            self._records.install(event)
            if (event.level, event.direction) == (Level.EARLY, Direction.SEND):
                self._send(self._records.application_data(self._early_data[: self._early_limit]))
        elif isinstance(event, SendMessage):
            self._send(self._records.handshake(event.data))
        elif isinstance(event, PeerRecordSizeLimit):
            self._records.send_limit = min(event.limit, self._max_send)
            self._records.receive_limit = self._record_size_limit
        elif isinstance(event, SkipEarlyData):
            self._records.skip_early_data(event.limit)
        elif isinstance(event, EarlyDataOffered):
            self._early_limit = event.max_size
        elif isinstance(event, EarlyDataRefused):
            self._early_limit = 0
            self._records.end_early_data()
        elif isinstance(event, EarlyDataAccepted):
            self._records.take_early_data(event.max_size)

    async def finish(self) -> None:
        """What the server did not take early is sent now."""
        self._send(self._records.application_data(self._early_data[self._early_limit :]))
        await self._flush()

    async def fail(self, alert: AlertDescription, reason: str) -> None:
        self._send(self._records.alert(alert))
        self._has_ended = True
        await self._flush()
        await self._drain()

    def close(self) -> None:
        self._writer.close()

    def go_on(self, engine: Engine, keep: Callable[[bytes], None] = lambda _data: None) -> None:
        """The handshake is complete. keep: given the data of each session that can be resumed later."""

        def take(message: bytes) -> None:
            for event in engine.receive(Level.APP, message):
                if isinstance(event, NewSession):
                    keep(event.data)

        self._connection = Connection(self._records, take)

    async def read(self) -> bytes:
        """What comes next of the peer's data; b"" when it has ended with close_notify, EndpointError when without."""
        data, self._early_received = self._early_received, b""
        while not (data or self._ended):
            try:
                async with asyncio.timeout(self._timeout):
                    record = await self._record()
                data = self._connection.receive(*record)
                self._send(self._connection.answer())
                await self._flush()
            except PeerAlertError as error:
                if error.description != AlertDescription.CLOSE_NOTIFY:
                    raise
                self._ended = True
        return data

    async def write(self, data: bytes) -> None:
        self._send(self._connection.send(data))
        await self._flush()

    async def update_keys(self, *, request: bool) -> None:
        """Send a KeyUpdate; `request`: and ask for one."""
        self._send(self._connection.update_keys(request=request))
        await self._flush()

    async def end(self) -> None:
        """We have nothing more to send: close_notify (RFC 8446 section 6.1). Reading goes on."""
        self._send(self._connection.alert(AlertDescription.CLOSE_NOTIFY))
        self._has_ended = True
        await self._flush()
        with suppress(OSError):
            self._writer.write_eof()

    def _send(self, data: bytes) -> None:
        """Nothing comes behind an alert."""
        if data and not self._has_ended:
            self._writer.write(data)

    async def _drain(self) -> None:
        """Let the peer read what we sent last: a close with bytes unread is a reset, which may overtake it."""
        left = _DRAIN
        with suppress(OSError, TimeoutError):
            self._writer.write_eof()
            async with asyncio.timeout(_LINGER):
                while left > 0 and (data := await self._reader.read(left)):
                    left -= len(data)

    async def _record(self) -> tuple[bytes, bytes]:
        """The next record's header and body."""
        header = await self._read(HEADER)
        return header, await self._read(self._records.body_length(header))

    async def _read(self, size: int) -> bytes:
        try:
            return await self._reader.readexactly(size)
        except asyncio.IncompleteReadError:
            raise EndpointError(errno.ECONNRESET, "the peer closed the connection without close_notify") from None
        except OSError as error:
            raise _failure("receiving", error) from None

    async def _flush(self) -> None:
        try:
            await self._writer.drain()
        except OSError as error:
            raise _failure("sending", error) from None


def _failure(what: str, error: OSError) -> EndpointError:
    return EndpointError(error.errno or errno.EIO, f"{what}: {error.strerror or error}")
