"""Reading packets from a socket that stays registered with the event loop for as long as a handshake lasts.

Adding and removing a reader costs more than the read itself, so packets are read when they come and wait here for who
asks. What waits is bounded, for those who ask may never do: a full queue stops the reading until it is empty again.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from quic_tlshd.endpoint.interface import EndpointError

_MOST = 64  # packets that wait
_MOST_BYTES = 64 * 1024  # reading stops when so many wait; with the packet before that, never more than twice as many

T = TypeVar("T")


class _HasFileno(Protocol):
    def fileno(self) -> int: ...


class PacketReader(Generic[T]):
    """`read` takes one packet off the socket without waiting: it gives the packet, or raises BlockingIOError when there
    is none, or EndpointError when there will be no more. `size` is how many bytes a packet has."""

    def __init__(self, sock: _HasFileno, read: Callable[[], T], size: Callable[[T], int]) -> None:
        self._loop = asyncio.get_running_loop()
        self._fd = sock.fileno()
        self._read = read
        self._size = size
        self._packets: deque[T] = deque()
        self._bytes = 0  # in them
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
        packet = self._packets.popleft()
        self._bytes -= self._size(packet)
        return packet

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
            packet = self._read()
            self._packets.append(packet)
            self._bytes += self._size(packet)
        except BlockingIOError:
            return
        except EndpointError as error:
            self._error = error
        if self._error is not None or len(self._packets) >= _MOST or self._bytes >= _MOST_BYTES:
            self.close()
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
