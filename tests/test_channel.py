"""What crosses between monitor and worker, and what happens to who breaks the rules."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from quic_tlshd import channel
from quic_tlshd.channel import Channel, ChannelError, pack_registry, unpack_registry
from quic_tlshd.policy.registry import Entry, Registry, TrustAnchors
from quic_tlshd.request import AuthMode, HandshakeOutcome, HandshakeRequest, Role
from quic_tlshd.tls.parameters import CertificateChain, Psk

REQUEST = HandshakeRequest(id=7, role=Role.CLIENT, auth_mode=AuthMode.PSK, deadline=1.5, peer="somebody", psks=(
    Psk(b"\xff identity", b"secret", "sha384"),), alpn=(b"h3", b"\x00"))  # fmt: skip


class End:
    """One end, and what it has seen."""

    def __init__(self, sock: socket.socket, receives: object, *, fds: bool) -> None:
        self.seen: asyncio.Queue[tuple[Any, int]] = asyncio.Queue()
        self.ended: asyncio.Future[ChannelError | None] = asyncio.get_running_loop().create_future()
        self.channel: Channel[Any] = Channel(sock, receives, self._on_message, self.ended.set_result, fds=fds)

    def _on_message(self, message: object, fd: int) -> None:
        self.seen.put_nowait((message, fd))

    async def get(self) -> tuple[Any, int]:
        return await asyncio.wait_for(self.seen.get(), 10)


class Pair:
    def __init__(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.monitor, self.worker = End(ours, channel.ToMonitor, fds=False), End(theirs, channel.ToWorker, fds=True)
        self.raw = theirs  # for a worker that was taken over


@pytest_asyncio.fixture
async def pair() -> AsyncIterator[Pair]:
    made = Pair()
    yield made
    made.monitor.channel.close()
    made.worker.channel.close()


@pytest.mark.parametrize(
    "message",
    [
        channel.Ping(),
        channel.Perform(REQUEST),
        channel.Cancel(7),
        channel.Signature(7, b"\x00\xff"),
        channel.PskAnswer(7, 1, Psk(b"i", b"k")),
        channel.PskAnswer(7, 0, state=b"state"),
        channel.PskAnswer(7),
        channel.Tickets(7, (b"ticket",)),
        channel.EarlyDataAnswer(7, True),
    ],
    ids=lambda message: type(message).__name__,
)
async def test_to_the_worker(pair: Pair, message: channel.ToWorker) -> None:
    pair.monitor.channel.send(message)
    assert await pair.worker.get() == (message, -1)


@pytest.mark.parametrize(
    "message",
    [
        channel.Ready("1"),
        channel.Pong(),
        channel.Sign(7, "id", 0x403, b"h" * 32),
        channel.FindPsk(7, "h3", (b"\xff",)),
        channel.SealTickets(7, "h3", (b"state", b"state")),
        channel.ClaimEarlyData(7, b"b" * 32),
        channel.Outcome(7, HandshakeOutcome(status=0, peer_chain=(b"x" * 100_000,), alpn=b"h3")),
    ],
    ids=lambda message: type(message).__name__,
)
async def test_to_the_monitor(pair: Pair, message: channel.ToMonitor) -> None:
    pair.worker.channel.send(message)
    assert await pair.monitor.get() == (message, -1)


async def test_a_descriptor_travels_and_stays_the_senders_too(pair: Pair) -> None:
    read, write = os.pipe()
    pair.monitor.channel.send(channel.Perform(REQUEST), read)
    message, fd = await pair.worker.get()
    assert message == channel.Perform(REQUEST)
    os.write(write, b"x")
    assert os.read(fd, 1) == b"x"
    assert not os.get_inheritable(fd)
    for each in (read, write, fd):
        os.close(each)


async def test_a_slow_reader_gets_everything_in_order(pair: Pair) -> None:
    large = HandshakeOutcome(peer_chain=(b"x" * 50_000,))
    for number in range(100):
        pair.worker.channel.send(channel.Outcome(number, large))
    for number in range(100):
        assert (await pair.monitor.get())[0].id == number


@pytest.mark.parametrize(
    "packet",
    [
        b"\xc1",
        b"text",
        msgspec.msgpack.encode({"type": "ping"}),  # the other direction's
        msgspec.msgpack.encode({"type": "sign", "id": "seven"}),
        msgspec.msgpack.encode({"type": "sign", "id": 7}),
        msgspec.msgpack.encode({"type": "outcome", "id": 7, "outcome": {"status": "fine"}}),
        b"x" * (300 * 1024),
    ],
    ids=["garbage", "text", "direction", "type", "missing", "nested", "long"],
)
async def test_a_worker_that_breaks_the_rules_is_ended(pair: Pair, packet: bytes) -> None:
    pair.raw.send(packet)
    assert isinstance(await asyncio.wait_for(pair.monitor.ended, 10), ChannelError)


async def test_a_worker_can_pass_no_descriptor(pair: Pair) -> None:
    read, write = os.pipe()
    before = len(os.listdir("/proc/self/fd"))
    socket.send_fds(pair.raw, [msgspec.msgpack.encode(channel.Pong())], [read])
    await asyncio.wait([asyncio.ensure_future(pair.monitor.get()), pair.monitor.ended], return_when="FIRST_COMPLETED")
    assert len(os.listdir("/proc/self/fd")) <= before
    os.close(read)
    os.close(write)


async def test_who_does_not_read_is_ended_before_memory_is(pair: Pair) -> None:
    for number in range(100_000):  # without a pause in which anything could be read
        pair.monitor.channel.send(channel.Signature(number, b"s" * 70))
        if pair.monitor.ended.done():
            break
    assert isinstance(pair.monitor.ended.result(), ChannelError)


async def test_the_other_end_is_gone(pair: Pair) -> None:
    pair.worker.channel.close()
    assert await asyncio.wait_for(pair.monitor.ended, 10) is None
    pair.monitor.channel.send(channel.Ping())  # which nobody hears


def test_a_registry_crosses_in_a_file_that_nobody_can_change() -> None:
    chain = CertificateChain("id", (b"der",), ())
    entry = Entry(name="a", role=Role.SERVER, source="f:1", certificates=(chain,), trust="t")
    registry = Registry(entries=(entry,), trust={"t": TrustAnchors("t", (b"root",))})
    fd = pack_registry(registry)
    with pytest.raises(PermissionError):
        os.write(fd, b"x")
    assert unpack_registry(fd) == registry


def test_no_secret_shows_in_a_repr() -> None:
    assert "secret" not in repr(channel.Perform(REQUEST))
    assert "secret" not in repr(channel.PskAnswer(1, 0, REQUEST.psks[0]))
    assert "secret" not in repr(channel.PskAnswer(1, 0, state=b"secret"))
    assert "secret" not in repr(channel.SealTickets(1, "entry", (b"secret",)))
