"""-quic_messages: one handshake as QUIC has it, over standard input and output.

The messages are those that a QUIC stack and the daemon exchange (`endpoint.userspace_protocol`): u8 type, u8 level, u16
argument, body. Each has its length before it here (u32, network byte order), for a pipe has no packets. From the stack
come CRYPTO and ALERT only; to it goes, when the handshake is complete, one type more:

============ ===== ======== ===============================================
message      level argument body
============ ===== ======== ===============================================
COMPLETE 255 0     0        what was negotiated, in one line of text (UTF-8)
============ ===== ======== ===============================================

After that, the stack closes its end, or sends what comes later at the level APP.
"""

from __future__ import annotations

import asyncio
import errno
import struct
import sys
from typing import BinaryIO

from quic_tlshd.endpoint.interface import EndpointError, Settings, TransportEvent
from quic_tlshd.endpoint.userspace_protocol import MAX_PACKET, Message, MessageType, messages_of
from quic_tlshd.tls.alert import AlertDescription, PeerAlertError
from quic_tlshd.tls.events import NewSession
from quic_tlshd.tls.parameters import Level
from quic_tlshd.tools.drive import describe, fail, handshake, reason
from quic_tlshd.tools.pipe import standard_input
from quic_tlshd.tools.policy import Setup

COMPLETE = 255
_LENGTH = struct.Struct("!I")


class PipeEndpoint:
    """See `endpoint.interface.Endpoint` for the methods."""

    def __init__(self, source: asyncio.StreamReader, sink: BinaryIO, transport_parameters: bytes) -> None:
        self._source, self._sink = source, sink
        self._transport_parameters = transport_parameters

    async def settings(self) -> Settings:
        return Settings(transport_parameters=self._transport_parameters)

    async def receive(self) -> tuple[Level, bytes]:
        message = await self._read()
        if message.type == MessageType.ALERT:
            raise PeerAlertError(message.argument)
        if message.type != MessageType.CRYPTO or not message.body:
            raise EndpointError(errno.EPROTO, f"message type {message.type} of {len(message.body)} bytes is unexpected")
        return message.level, message.body

    async def apply(self, event: TransportEvent) -> None:
        for message in messages_of(event):
            self.send(message)

    async def finish(self) -> None:
        """Nothing to do: with both APP secrets the connection is established."""

    async def fail(self, alert: AlertDescription, reason: str) -> None:
        self.send(Message(MessageType.ALERT, argument=alert, body=reason.encode()))

    def close(self) -> None:
        """The pipes end with the process."""

    def send(self, message: Message) -> None:
        packet = message.encode()
        try:
            self._sink.write(_LENGTH.pack(len(packet)) + packet)
            self._sink.flush()
        except OSError as error:
            raise EndpointError(error.errno or errno.EPIPE, "the QUIC stack closed the handshake") from None

    async def _read(self) -> Message:
        try:
            (length,) = _LENGTH.unpack(await self._source.readexactly(_LENGTH.size))
            if length > MAX_PACKET:
                raise EndpointError(errno.EMSGSIZE, f"a packet of {length} bytes")
            return Message.decode(await self._source.readexactly(length))
        except asyncio.IncompleteReadError:
            raise EndpointError(errno.ECONNRESET, "the QUIC stack closed the handshake") from None
        except ValueError as error:
            raise EndpointError(errno.EPROTO, str(error)) from None


async def run(setup: Setup) -> int:
    """Do one handshake, and take what comes after it until the input ends; give the exit status."""
    endpoint = PipeEndpoint(await standard_input(), sys.stdout.buffer, setup.options.transport_parameters)
    is_complete = False
    try:
        async with asyncio.timeout(setup.options.timeout):
            engine, complete = await handshake(setup, endpoint)
            is_complete = True
            endpoint.send(Message(COMPLETE, body=describe(complete).encode()))
            while True:
                for event in engine.receive(*await endpoint.receive()):
                    if isinstance(event, NewSession):
                        setup.keep(event.data)
                    elif isinstance(event, TransportEvent):
                        await endpoint.apply(event)
    except Exception as error:  # noqa: BLE001 -- a peer's doing or ours, it is told in one line
        if is_complete and isinstance(error, EndpointError) and error.errno == errno.ECONNRESET:
            return 0
        await fail(endpoint, error)
        print(f"failed: {reason(error)}", file=sys.stderr)  # noqa: T201
        return 1
