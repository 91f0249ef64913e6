"""Reading packets from a socket that stays registered with the event loop for as long as a handshake lasts.

Adding and removing a reader costs more than the read itself, so packets are read when they come and wait here for who
asks. What waits is bounded: a full queue stops the reading until it is empty again.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from quic_tlshd.endpoint.interface import EndpointError

_MOST = 64  # packets that wait

T = TypeVar("T")


class _HasFileno(Protocol):
    def fileno(self) -> int: ...


class PacketReader(Generic[T]):
    """`read` takes one packet off the non-blocking socket: it gives the packet, or raises BlockingIOError when there is
    none, or EndpointError when there will be no more."""

    def __init__(self, sock: _HasFileno, read: Callable[[], T]) -> None:
        self._loop = asyncio.get_running_loop()
        self._fd = sock.fileno()
        self._read = read
        self._packets: deque[T] = deque()
        self._error: EndpointError | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._reading = False
        self._resume()

    async def get(self) -> T:
        """The next packet; EndpointError once there is none left and will be none."""
        while not self._packets:
            if self._error is not None:
                raise self._error
            self._resume()
            self._waiter = self._loop.create_future()
            await self._waiter
        return self._packets.popleft()

    def close(self) -> None:
        """To be called before the socket is closed."""
        if self._reading:
            self._loop.remove_reader(self._fd)
            self._reading = False

    def _resume(self) -> None:
        if not self._reading:
            self._loop.add_reader(self._fd, self._readable)
            self._reading = True

    def _readable(self) -> None:
        try:
            self._packets.append(self._read())
        except BlockingIOError:
            return
        except EndpointError as error:
            self._error = error
        if self._error is not None or len(self._packets) >= _MOST:
            self.close()
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
