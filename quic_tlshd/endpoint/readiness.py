"""Waiting for a socket whose O_NONBLOCK is not ours to set.

The flag belongs to the open file description, which the socket's owner shares: it may clear it whenever it likes, and a
process that relied on it would then hang in send or recv with all its handshakes. So every call on an endpoint's socket
has MSG_DONTWAIT, and after BlockingIOError one of these is awaited.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable


async def readable(fd: int) -> None:
    """Wait until a recv may do something."""
    loop = asyncio.get_running_loop()
    await _until_called(fd, loop.add_reader, loop.remove_reader)


async def writable(fd: int) -> None:
    """Wait until a send may do something."""
    loop = asyncio.get_running_loop()
    await _until_called(fd, loop.add_writer, loop.remove_writer)


async def _until_called(
    fd: int, add: Callable[[int, Callable[[], None]], None], remove: Callable[[int], object]
) -> None:
    """Wait for a callback. Not registered for longer: what stays unread in the socket would call it all the time."""
    waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def wake() -> None:
        if not waiter.done():
            waiter.set_result(None)

    add(fd, wake)
    try:
        await waiter
    finally:
        remove(fd)
