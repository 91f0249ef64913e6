"""A handshake that the daemon does for a QUIC stack in this process, whichever stack that is.

The stack keeps its UDP socket, its connection and its packets. It hands over CRYPTO data and its transport parameters,
and gets CRYPTO data, secrets and the peer's transport parameters back; the messages are in
quic_tlshd/endpoint/userspace_protocol.py. No certificate, private key or TLS code is needed here.

Everything runs on the event loop in which `Daemon.start` was called; nothing blocks, nothing is thread-safe.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from netlink.handshake import Accept, Done, MalformedMessage
from netlink.upcall import DEFAULT_PATH, UpcallConnection
from quic_tlshd.endpoint.userspace_protocol import CRYPTO_CHUNK, MAX_PACKET, Message, MessageType
from quic_tlshd.tls.parameters import Level

Deliver = Callable[["RemoteHandshake", list[Message], Done | None], None]
"""Gets what the daemon said about a handshake, in order; the last time also how the handshake ended."""

MAX_WAITING = 1024 * 1024  # bytes of a peer's CRYPTO data that a slow daemon may leave unread
PATIENCE = 2.0  # seconds beyond the request's own timeout, after which the daemon counts as gone


class Daemon:
    """The daemon behind one upcall socket. All handshakes that are under way at a time share one connection to it.

    The connection is opened when it is needed and closed when it is idle, so that a restarted daemon is found again.
    """

    def __init__(self, path: str = DEFAULT_PATH, *, patience: float = PATIENCE) -> None:
        self.path = path
        self.patience = patience
        self._connection: UpcallConnection | None = None
        self._opening = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, request: Accept, settings: bytes, deliver: Deliver) -> RemoteHandshake:
        """Ask for one handshake; `settings` is the body of SETTINGS. OSError if there are no more file descriptors."""
        handshake = RemoteHandshake(settings, deliver)
        task = asyncio.get_running_loop().create_task(self._run(handshake, request))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return handshake

    async def _run(self, handshake: RemoteHandshake, request: Accept) -> None:
        try:
            handshake.end(await self._ask(request, handshake))
        finally:
            handshake.close()
            handshake.theirs.close()
            if self._tasks <= {asyncio.current_task()}:
                self._disconnect()

    async def _ask(self, request: Accept, handshake: RemoteHandshake) -> Done:
        """How the handshake ended; a daemon that can't be asked is one more way to fail."""
        connection = None
        try:
            async with asyncio.timeout(request.timeout / 1000 + self.patience):
                async with self._opening:
                    if self._connection is None:
                        self._connection = await UpcallConnection.open(self.path)
                    connection = self._connection
                return await connection.handshake(request, handshake.theirs)
        except TimeoutError:
            return Done(errno.ETIMEDOUT, reason="the handshake daemon did not answer in time")
        except MalformedMessage as error:
            return Done(errno.EIO, reason=f"the handshake daemon's answer is malformed: {error}")
        except OSError as error:
            if self._connection is connection:
                self._disconnect()
            return Done(error.errno or errno.EIO, reason=error.strerror or "the handshake daemon can't be asked")

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class RemoteHandshake:
    """One handshake: our end of the socket that it runs on."""

    def __init__(self, settings: bytes, deliver: Deliver) -> None:
        kind = socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        self._socket, self.theirs = socket.socketpair(socket.AF_UNIX, kind)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._socket, self._readable)
        self._deliver = deliver
        self._waiting: deque[bytes] = deque()
        self._send(Message(MessageType.SETTINGS, body=settings))

    def send(self, level: Level, data: bytes) -> None:
        """Hand over CRYPTO data of the peer. OverflowError if the daemon has left too much of it unread."""
        if sum(map(len, self._waiting)) + len(data) > MAX_WAITING:
            raise OverflowError("the handshake daemon does not read")
        for start in range(0, len(data), CRYPTO_CHUNK):
            self._send(Message(MessageType.CRYPTO, level, body=data[start : start + CRYPTO_CHUNK]))

    def send_alert(self, alert: int) -> None:
        """Say that the peer closed the connection with this TLS alert."""
        self._send(Message(MessageType.ALERT, argument=alert))

    def close(self) -> None:
        """End the handshake if it is not over; how it ended is delivered nevertheless, when the daemon has said so."""
        if self._socket.fileno() >= 0:
            self._loop.remove_reader(self._socket)
            self._loop.remove_writer(self._socket)
            # A close with packets unread is a reset, which the daemon would see before what we sent last.
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RD)
                while self._socket.recv(1):
                    pass
            self._socket.close()

    def end(self, done: Done) -> None:
        """DONE comes by another way than the messages and may overtake them: it is delivered after all of them."""
        messages = self._receive()
        self.close()
        self._deliver(self, messages, done)

    def _readable(self) -> None:
        messages = self._receive()
        if messages:
            self._deliver(self, messages, None)

    def _receive(self) -> list[Message]:
        """All messages that are there. The end of the stream says nothing: DONE tells why it came."""
        messages: list[Message] = []
        while self._socket.fileno() >= 0:
            try:
                packet = self._socket.recv(MAX_PACKET)
            except BlockingIOError:
                break
            except OSError:
                packet = b""
            if not packet:
                self._loop.remove_reader(self._socket)
                break
            with suppress(ValueError):  # a newer daemon's message that this side can't read is none for it
                messages.append(Message.decode(packet))
        return messages

    def _send(self, message: Message) -> None:
        self._waiting.append(message.encode())
        if len(self._waiting) == 1:
            self._flush()

    def _flush(self) -> None:
        while self._waiting and self._socket.fileno() >= 0:
            try:
                self._socket.send(self._waiting[0])
            except BlockingIOError:
                self._loop.add_writer(self._socket, self._flush)
                return
            except OSError:
                self._waiting.clear()  # nobody reads any more: DONE tells why
                break
            self._waiting.popleft()
        if self._socket.fileno() >= 0:
            self._loop.remove_writer(self._socket)
