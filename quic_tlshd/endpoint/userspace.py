"""The endpoint of a QUIC stack in another process; `userspace_protocol` has the messages.

Who sends the upcall keeps the socket, so its flags stay as they are: MSG_DONTWAIT, see `endpoint.readiness`.
"""

from __future__ import annotations

import errno
import socket
from contextlib import suppress

from quic_tlshd.endpoint.interface import EndpointError, Settings, TransportEvent
from quic_tlshd.endpoint.packets import PacketReader
from quic_tlshd.endpoint.readiness import writable
from quic_tlshd.endpoint.userspace_protocol import MAX_PACKET, Message, MessageType, decode_settings, messages_of
from quic_tlshd.tls.alert import AlertDescription, PeerAlertError
from quic_tlshd.tls.parameters import Level

_DRAIN = 1024  # packets of a stack's that are thrown away at the end


class UserspaceEndpoint:
    """The daemon's side; owns `sock`. See `endpoint.interface.Endpoint` for the methods."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._packets = PacketReader(sock, self._read, lambda message: len(message.body))

    async def settings(self) -> Settings:
        message = await self._packets.get()
        if message.type != MessageType.SETTINGS:
            raise EndpointError(errno.EPROTO, f"message type {message.type} came before the settings")
        try:
            return decode_settings(message.body)
        except ValueError as error:
            raise EndpointError(errno.EINVAL, f"bad settings: {error}") from None

    async def receive(self) -> tuple[Level, bytes]:
        message = await self._packets.get()
        if message.type == MessageType.ALERT:
            raise PeerAlertError(message.argument)
        if message.type != MessageType.CRYPTO or not message.body:
            raise EndpointError(errno.EPROTO, f"message type {message.type} of {len(message.body)} bytes is unexpected")
        return message.level, message.body

    async def apply(self, event: TransportEvent) -> None:
        for message in messages_of(event):
            await self._send(message)

    async def finish(self) -> None:
        """Nothing to do: with both APP secrets the connection is established."""

    async def fail(self, alert: AlertDescription, reason: str) -> None:
        try:
            await self._write(Message(MessageType.ALERT, argument=alert, body=reason.encode()))
        except OSError as error:
            raise _gone(error) from None

    def close(self) -> None:
        self._packets.close()
        # A close with packets unread is a reset, which the stack would see before what we sent last.
        with suppress(OSError):
            self._sock.shutdown(socket.SHUT_RD)
            for _ in range(_DRAIN):
                if not self._sock.recv(1, socket.MSG_DONTWAIT):
                    break
        self._sock.close()

    def _read(self) -> Message:
        """One packet; EndpointError also when the stack has closed its end."""
        try:
            try:
                packet, _, flags, _ = self._sock.recvmsg(MAX_PACKET, 0, socket.MSG_DONTWAIT)
            except ConnectionResetError:  # told once, and ahead of what was sent before the close
                packet, _, flags, _ = self._sock.recvmsg(MAX_PACKET, 0, socket.MSG_DONTWAIT)
        except BlockingIOError:
            raise
        except OSError:  # a socket that was never connected
            packet, flags = b"", 0
        if not packet:
            raise EndpointError(errno.ECONNRESET, "the QUIC stack closed the handshake")
        if flags & socket.MSG_TRUNC:
            raise EndpointError(errno.EMSGSIZE, f"a packet of more than {MAX_PACKET} bytes")
        try:
            return Message.decode(packet)
        except ValueError as error:
            raise EndpointError(errno.EPROTO, str(error)) from None

    async def _send(self, message: Message) -> None:
        try:
            await self._write(message)
        except (BrokenPipeError, ConnectionResetError) as error:
            with suppress(EndpointError):
                while True:  # what it said before it closed may be the peer's alert
                    await self.receive()
            raise _gone(error) from None
        except OSError as error:
            raise _gone(error) from None

    async def _write(self, message: Message) -> None:
        """Send one packet, when there is room for it; OSError if there will be none."""
        packet = message.encode()
        while True:
            try:
                self._sock.send(packet, socket.MSG_DONTWAIT)
            except BlockingIOError:
                await writable(self._sock.fileno())
            else:
                return


def _gone(error: OSError) -> EndpointError:
    if isinstance(error, BrokenPipeError | ConnectionResetError):
        return EndpointError(error.errno or errno.EPIPE, "the QUIC stack closed the handshake")
    return EndpointError(error.errno or errno.EIO, f"sending: {error.strerror or error}")
