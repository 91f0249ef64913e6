"""The caller's side of the user-space upcall: with asyncio, for one upcall or many, and without asyncio."""

from __future__ import annotations

import asyncio
import errno
import socket
import struct
import time
from array import array
from types import TracebackType

from netlink.handshake import Accept, Done
from netlink.message import MalformedMessage, peek_sequence
from netlink.upcall.protocol import DEFAULT_PATH, MAX_ANSWER, decode_answer, encode_request

BACKLOG_FULL = 5  # seconds to wait for a daemon that is there but does not accept connections


class DaemonUnavailable(OSError):  # noqa: N818  # a state of the daemon, named as what it is
    """Nobody listens at the path, or it is not ours to use. errno tells which."""


def _unavailable(error: OSError, path: str) -> DaemonUnavailable:
    return DaemonUnavailable(error.errno, f"no handshake daemon: {error.strerror}", path)


def _vanished() -> ConnectionResetError:
    return ConnectionResetError(errno.ECONNRESET, "the handshake daemon closed the connection before DONE")


def _rights(sock: socket.socket | int) -> list[tuple[int, int, array[int]]]:
    fd = sock if isinstance(sock, int) else sock.fileno()
    return [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", [fd]))]


async def handshake(accept: Accept, sock: socket.socket | int, *, path: str = DEFAULT_PATH) -> Done:
    """Have the handshake done on `sock`, which stays the caller's; how it ended. Cancelling this cancels the upcall.

    DaemonUnavailable without a daemon, ConnectionResetError if it goes away before DONE.
    """
    async with await UpcallConnection.open(path) as connection:
        return await connection.handshake(accept, sock)


def handshake_sync(
    accept: Accept, sock: socket.socket | int, *, path: str = DEFAULT_PATH, timeout: float | None = None
) -> Done:
    """The same without asyncio. TimeoutError after `timeout` seconds, which cancels the upcall."""
    request = encode_request(accept, 1)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        deadline = None if timeout is None else time.monotonic() + timeout
        # A connect that waits for a place in the backlog heeds SO_SNDTIMEO, but not Python's own timeout.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("@ll", BACKLOG_FULL, 0))
        try:
            connection.connect(path)
        except OSError as error:
            raise _unavailable(error, path) from error
        try:
            if deadline is not None:
                connection.settimeout(max(deadline - time.monotonic(), 0.001))
            connection.sendmsg([request], _rights(sock))
            packet = connection.recv(MAX_ANSWER)
        except ConnectionError:
            raise _vanished() from None
    if not packet:
        raise _vanished()
    return decode_answer(packet)[1]


class UpcallConnection:
    """One connection for any number of upcalls at a time. Made by `open`; belongs to that event loop.

    Cancelling a `handshake` only forgets it, because nothing in the protocol cancels one upcall of many: the daemon
    goes on with it until its timeout. Closing the connection cancels all.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._socket: socket.socket | None = connection
        self._loop = asyncio.get_running_loop()
        self._sequence = 0
        self._waiting: dict[int, asyncio.Future[Done]] = {}
        self._sending = asyncio.Lock()
        self._writable = asyncio.Event()
        self._loop.add_reader(connection.fileno(), self._receive)

    @classmethod
    async def open(cls, path: str = DEFAULT_PATH) -> UpcallConnection:
        """Connect to the daemon at `path`."""
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
        deadline = time.monotonic() + BACKLOG_FULL
        try:
            while True:
                try:
                    connection.connect(path)
                    return cls(connection)
                except BlockingIOError:
                    # The backlog is full. Nothing wakes a connect on AF_UNIX (unix(7)): it has to be tried again.
                    if time.monotonic() > deadline:
                        raise
                await asyncio.sleep(0.005)
        except BaseException as error:
            connection.close()
            if isinstance(error, OSError):
                raise _unavailable(error, path) from error
            raise

    async def handshake(self, accept: Accept, sock: socket.socket | int) -> Done:
        """Have the handshake done on `sock`, which stays the caller's; how it ended."""
        if self._socket is None:
            raise _vanished()
        self._sequence = sequence = (self._sequence + 1) & 0xFFFFFFFF
        request, rights = encode_request(accept, sequence), _rights(sock)
        answer: asyncio.Future[Done] = self._loop.create_future()
        self._waiting[sequence] = answer
        try:
            await self._send(request, rights)
            return await answer
        finally:
            del self._waiting[sequence]
            if answer.done() and not answer.cancelled():
                answer.exception()  # seen, even if _send was what failed

    def close(self) -> None:
        """Close the connection; what is outstanding on it fails with ConnectionResetError."""
        if self._socket is None:
            return
        self._loop.remove_reader(self._socket.fileno())
        self._loop.remove_writer(self._socket.fileno())
        self._socket.close()
        self._socket = None
        self._writable.set()
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(_vanished())

    async def __aenter__(self) -> UpcallConnection:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def _send(self, request: bytes, rights: list[tuple[int, int, array[int]]]) -> None:
        async with self._sending:
            while self._socket is not None:  # else close() has told the waiting
                try:
                    self._socket.sendmsg([request], rights)
                    return
                except BlockingIOError:
                    await self._wait_writable(self._socket)
                except ConnectionError:
                    self.close()

    async def _wait_writable(self, connection: socket.socket) -> None:
        self._writable.clear()
        self._loop.add_writer(connection.fileno(), self._writable.set)
        try:
            await self._writable.wait()
        finally:
            if self._socket is not None:
                self._loop.remove_writer(connection.fileno())

    def _receive(self) -> None:
        assert self._socket is not None
        try:
            packet = self._socket.recv(MAX_ANSWER)
        except BlockingIOError:
            return
        except OSError:
            packet = b""
        sequence = peek_sequence(packet)
        if sequence is None:  # the end, or no daemon of ours
            self.close()
            return
        answer = self._waiting.get(sequence)
        if answer is None or answer.done():  # forgotten
            return
        try:
            answer.set_result(decode_answer(packet)[1])
        except MalformedMessage as error:
            answer.set_exception(error)
