"""The reader that stays registered: order, its bound, its end."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from quic_tlshd.endpoint.interface import EndpointError
from quic_tlshd.endpoint.packets import PacketReader

BOUND = 64
BYTES = 128 * 1024


class Source:
    """A socket, its reader, and how often it was read."""

    def __init__(self) -> None:
        self.far, self.near = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
        self.reads = 0
        self.reader = PacketReader(self.near, self.read, len)

    def read(self) -> bytes:
        self.reads += 1
        packet = self.near.recv(1 << 16)
        if not packet:
            raise EndpointError(errno.ECONNRESET, "the end")
        if packet == b"skip":
            raise BlockingIOError
        return packet


@pytest_asyncio.fixture
async def source() -> AsyncIterator[Source]:
    source = Source()
    yield source
    source.reader.close()
    source.near.close()
    source.far.close()


async def test_packets_come_in_order_and_then_the_end(source: Source) -> None:
    for number in range(3 * BOUND):
        source.far.send(b"%d" % number)
    source.far.close()
    for number in range(3 * BOUND):
        assert await source.reader.get() == b"%d" % number
    for _ in range(2):
        with pytest.raises(EndpointError, match="the end"):
            await source.reader.get()


async def test_what_waits_is_bounded(source: Source) -> None:
    for _ in range(2 * BOUND):
        source.far.send(b"packet")
    await asyncio.sleep(0.01)
    assert source.reads == BOUND
    for _ in range(BOUND):
        await source.reader.get()
    await asyncio.sleep(0.01)
    assert source.reads == BOUND, "nobody has asked for more"
    await source.reader.get()
    await asyncio.sleep(0.01)
    assert source.reads == 2 * BOUND


async def test_what_waits_is_bounded_in_bytes(source: Source) -> None:
    source.far.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    for size in (1, BYTES // 2 - 2, BYTES // 2 - 1, BYTES // 4):
        source.far.send(bytes(size))
    await asyncio.sleep(0.01)
    assert source.reads == 3, "no more than fits"
    for _ in range(3):
        await source.reader.get()
    await asyncio.sleep(0.01)
    assert source.reads == 3, "nobody has asked for more"
    assert len(await source.reader.get()) == BYTES // 4
    source.far.send(b"packet")
    await asyncio.sleep(0.01)
    assert source.reads == 5, "what was taken waits no longer"


async def test_a_packet_that_is_none(source: Source) -> None:
    waiting = asyncio.create_task(source.reader.get())
    source.far.send(b"skip")
    await asyncio.sleep(0.01)
    assert source.reads == 1
    assert not waiting.done()
    source.far.send(b"packet")
    assert await waiting == b"packet"


async def test_close_stops_the_reading(source: Source) -> None:
    source.reader.close()
    source.reader.close()
    source.far.send(b"packet")
    await asyncio.sleep(0.01)
    assert source.reads == 0
