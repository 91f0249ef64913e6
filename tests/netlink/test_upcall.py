"""The user-space upcall, through its public face: a server, its clients, and callers that misbehave."""

from __future__ import annotations

import asyncio
import errno
import os
import random
import resource
import socket
import stat
import struct
import threading
import time
from array import array
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from netlink.descriptors import still_open
from netlink.handshake import Accept, AcceptAttribute, Done, encode_accept, encode_attributes
from netlink.message import encode_message
from netlink.upcall import (
    MESSAGE_TYPE,
    DaemonUnavailable,
    Limits,
    Upcall,
    UpcallConnection,
    UpcallServer,
    handshake,
    handshake_sync,
)
from netlink.upcall.protocol import decode_answer, encode_request
from tests.netlink.lingering import Lingering

REQUEST = Accept(message_type=1, auth_mode=1, timeout=1000, peername="server.example", alpn=(b"h3",))


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.fixture(autouse=True)
def all_is_closed() -> Iterator[None]:
    """The next test counts descriptors."""
    yield
    deadline = time.monotonic() + 5
    while still_open(os.getuid()):
        assert time.monotonic() < deadline
        time.sleep(0.001)


class Daemon:
    """A server whose upcalls wait in `upcalls` for the test to answer them."""

    def __init__(self, path: Path, **options: object) -> None:
        self.path = str(path / "handshake.sock")
        self.upcalls: list[Upcall] = []
        self.arrived = asyncio.Event()
        self.cancelled: list[Upcall] = []
        self.answer: Done | None = None
        self.server = UpcallServer(self.path, self.take, **options)  # type: ignore[arg-type]
        self.server.open()

    def take(self, upcall: Upcall) -> None:
        upcall.cancelled = lambda: self.cancelled.append(upcall)
        self.upcalls.append(upcall)
        self.arrived.set()
        if self.answer is not None:
            self.end(upcall, self.answer)

    def end(self, upcall: Upcall, done: Done) -> bool:
        os.close(upcall.sock_fd)
        return upcall.done(done)

    async def next(self, count: int = 1) -> Upcall:
        async with asyncio.timeout(5):
            while len(self.upcalls) < count:
                self.arrived.clear()
                await self.arrived.wait()
        return self.upcalls[count - 1]

    def close(self) -> None:
        self.server.close()


@pytest.fixture
async def daemon(tmp_path: Path) -> AsyncIterator[Daemon]:
    made = Daemon(tmp_path)
    yield made
    made.close()


@pytest.fixture
def transport() -> Iterator[socket.socket]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours


def connect(daemon: Daemon) -> socket.socket:
    caller = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    caller.connect(daemon.path)
    caller.setblocking(False)
    return caller


def send(caller: socket.socket, packet: bytes, fds: list[int]) -> None:
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", fds))] if fds else []
    caller.sendmsg([packet], rights)


async def receive(caller: socket.socket) -> tuple[int, Done]:
    async with asyncio.timeout(5):
        return decode_answer(await asyncio.get_running_loop().sock_recv(caller, 1 << 20))


async def flood(caller: socket.socket, transport: socket.socket, count: int) -> None:
    for sequence in range(count):
        while True:
            try:
                send(caller, encode_request(REQUEST, sequence), [transport.fileno()])
                break
            except BlockingIOError:
                await asyncio.sleep(0)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.001)


async def test_an_upcall_from_end_to_end(daemon: Daemon, transport: socket.socket) -> None:
    waiting = asyncio.create_task(handshake(REQUEST, transport, path=daemon.path))
    upcall = await daemon.next()
    assert upcall.accept.peername == "server.example"
    assert upcall.accept.sockfd == upcall.sock_fd
    assert (upcall.peer.pid, upcall.peer.uid, upcall.peer.gid) == (os.getpid(), os.getuid(), os.getgid())
    assert os.fstat(upcall.sock_fd).st_ino == os.fstat(transport.fileno()).st_ino
    assert not os.get_inheritable(upcall.sock_fd)
    done = Done(status=0, sockfd=upcall.sock_fd, alpn=b"h3", tags=("t",), peer_chain=(b"der",), remote_auth=(7,))
    assert daemon.end(upcall, done)
    assert await waiting == Done(status=0, alpn=b"h3", tags=("t",), peer_chain=(b"der",), remote_auth=(7,))


async def test_the_sync_client(daemon: Daemon, transport: socket.socket) -> None:
    daemon.answer = Done(status=errno.EACCES, alert=48, reason="unknown_ca")
    done = await asyncio.to_thread(handshake_sync, REQUEST, transport.fileno(), path=daemon.path, timeout=5)
    assert done == daemon.answer


async def test_the_sync_client_gives_up_in_time(daemon: Daemon, transport: socket.socket) -> None:
    with pytest.raises(TimeoutError):
        await asyncio.to_thread(handshake_sync, REQUEST, transport, path=daemon.path, timeout=0.05)
    upcall = await daemon.next()
    await until(lambda: daemon.cancelled == [upcall])
    os.close(upcall.sock_fd)


async def test_many_upcalls_on_one_connection_in_any_order(daemon: Daemon, transport: socket.socket) -> None:
    async with await UpcallConnection.open(daemon.path) as connection:
        waiting = [
            asyncio.create_task(connection.handshake(Accept(peername=str(number)), transport)) for number in range(100)
        ]
        await daemon.next(100)
        random.Random(1).shuffle(daemon.upcalls)
        for upcall in daemon.upcalls:
            daemon.end(upcall, Done(status=0, server_name=upcall.accept.peername))
        assert [done.server_name for done in await asyncio.gather(*waiting)] == [str(number) for number in range(100)]


async def test_exactly_one_done(daemon: Daemon, transport: socket.socket) -> None:
    caller = connect(daemon)
    send(caller, encode_request(REQUEST, 9), [transport.fileno()])
    upcall = await daemon.next()
    assert upcall.outstanding
    assert daemon.end(upcall, Done(status=0))
    assert not upcall.outstanding
    assert not upcall.done(Done(status=errno.EIO))
    assert await receive(caller) == (9, Done(status=0))
    await asyncio.sleep(0.01)
    with pytest.raises(BlockingIOError):
        caller.recv(100)
    caller.close()
    await asyncio.sleep(0.01)
    assert not daemon.cancelled, "an upcall that was answered can't be cancelled"


async def test_a_caller_that_has_gone_cancels(daemon: Daemon, transport: socket.socket) -> None:
    waiting = asyncio.create_task(handshake(REQUEST, transport, path=daemon.path))
    upcall = await daemon.next()
    waiting.cancel()
    await until(lambda: daemon.cancelled == [upcall])
    assert not upcall.outstanding
    assert not daemon.end(upcall, Done(status=0))


async def test_a_cancelled_upcall_of_many_is_forgotten(daemon: Daemon, transport: socket.socket) -> None:
    async with await UpcallConnection.open(daemon.path) as connection:
        first = asyncio.create_task(connection.handshake(REQUEST, transport))
        second = asyncio.create_task(connection.handshake(REQUEST, transport))
        await daemon.next(2)
        first.cancel()
        for upcall in daemon.upcalls:
            assert daemon.end(upcall, Done(status=0))
        assert (await second).status == 0
        assert not daemon.cancelled


async def test_no_daemon(tmp_path: Path, transport: socket.socket) -> None:
    path = str(tmp_path / "absent.sock")
    with pytest.raises(DaemonUnavailable, match=r"absent\.sock") as caught:
        await handshake(REQUEST, transport, path=path)
    assert caught.value.errno == errno.ENOENT
    with pytest.raises(DaemonUnavailable, match=r"absent\.sock"):
        handshake_sync(REQUEST, transport, path=path)


async def test_a_daemon_that_vanishes(daemon: Daemon, transport: socket.socket) -> None:
    connection = await UpcallConnection.open(daemon.path)
    waiting = asyncio.create_task(connection.handshake(REQUEST, transport))
    sync = asyncio.create_task(asyncio.to_thread(handshake_sync, REQUEST, transport, path=daemon.path))
    await daemon.next(2)
    daemon.close()
    for each in (waiting, sync):
        with pytest.raises(ConnectionResetError, match="before DONE"):
            await each
    with pytest.raises(ConnectionResetError):
        await connection.handshake(REQUEST, transport)
    connection.close()
    for upcall in daemon.upcalls:
        os.close(upcall.sock_fd)


async def test_a_connection_that_is_closed_while_its_requests_wait(tmp_path: Path, transport: socket.socket) -> None:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(str(tmp_path / "deaf.sock"))
    listener.listen()
    connection = await UpcallConnection.open(str(tmp_path / "deaf.sock"))
    waiting = [asyncio.create_task(connection.handshake(REQUEST, transport)) for _ in range(500)]
    await asyncio.sleep(0.01)
    connection.close()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(each, ConnectionResetError) for each in results)
    listener.close()


async def test_on_accept_that_raises(
    tmp_path: Path, transport: socket.socket, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(upcall: Upcall) -> None:
        raise RuntimeError("no worker")

    server = UpcallServer(str(tmp_path / "s"), refuse)
    server.open()
    before = descriptors()
    assert (await handshake(REQUEST, transport, path=str(tmp_path / "s"))).status == errno.EIO
    await until(lambda: descriptors() == before)
    assert "no worker" in caplog.text
    server.close()


# Callers that misbehave


def header(*, number: int = MESSAGE_TYPE, command: int = 2, version: int = 1, attributes: bytes = b"") -> bytes:
    return encode_message(number, 1, 77, command, version, attributes)


@pytest.mark.parametrize(
    ("packet", "fds", "reason"),
    [
        (header(), 0, "descriptor"),
        (header(), 2, "descriptor"),
        (header(), 20, "descriptor"),
        (header(number=0x10), 1, "nlmsg_type"),
        (header(command=3), 1, "command 3"),
        (header(version=2), 1, "version 2"),
        (header() + header(), 1, "2 messages"),
        (header()[:-1], 1, "nlmsg_len"),
        (header()[:16], 1, "nlmsg_len"),
        (header(attributes=encode_attributes([(AcceptAttribute.PEERNAME, b"x")])), 1, "PEERNAME"),
        (header(attributes=b"\0" * 70000), 1, "longer than"),
        (header(attributes=encode_attributes([(5, b"\3\0\0\0")]).ljust(70000, b"\0")), 1, "longer than"),
        (header(attributes=encode_attributes([(8, "b\u00fccher\0".encode())])), 1, "PEERNAME: must be printable"),
        (header(attributes=encode_attributes([(8, b"a b\0")])), 1, "PEERNAME: must be printable"),
        (header(attributes=encode_attributes([(8, b"\0")])), 1, "PEERNAME: 0 char"),
        (header(attributes=encode_attributes([(8, b"a" * 256 + b"\0")])), 1, "PEERNAME: 256 char"),
        (
            header(attributes=encode_attributes([(AcceptAttribute.ALPN, b"a" * 255)] * 129)),
            1,
            "ALPN: 33024 bytes in all",
        ),
        (header(), 253, "descriptor"),
    ],
)
async def test_a_malformed_request_is_told_so(
    daemon: Daemon, transport: socket.socket, packet: bytes, fds: int, reason: str
) -> None:
    caller = connect(daemon)
    before = descriptors()
    send(caller, packet, [transport.fileno()] * fds)
    sequence, done = await receive(caller)
    assert (sequence, done.status) == (77, errno.EINVAL)
    assert reason in (done.reason or "")
    await until(lambda: descriptors() == before + 1)  # the daemon's end of the connection
    daemon.answer = Done(status=0)
    send(caller, encode_request(REQUEST, 78), [transport.fileno()])
    assert await receive(caller) == (78, Done(status=0))
    caller.close()


async def test_what_is_no_netlink_closes_the_connection(
    daemon: Daemon, transport: socket.socket, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    before = descriptors()
    for packet in (b"", b"GET / HTTP/1.0", b"\0"):
        caller = connect(daemon)
        send(caller, packet, [transport.fileno()])
        assert await asyncio.wait_for(asyncio.get_running_loop().sock_recv(caller, 100), 5) == b""
        caller.close()
    await until(lambda: descriptors() == before)
    assert len(caplog.records) == 2, "an empty packet is the end of the connection"


async def test_what_is_no_socket_is_told_so(daemon: Daemon, tmp_path: Path) -> None:
    caller = connect(daemon)
    before = descriptors()
    given = [*os.pipe(), os.open(tmp_path, os.O_RDONLY), os.open(daemon.path, os.O_PATH)]
    for fd in given:
        send(caller, encode_request(REQUEST, fd), [fd])
        sequence, done = await receive(caller)
        assert (sequence, done.status) == (fd, errno.ENOTSOCK)
        assert "no socket" in (done.reason or "")
        os.close(fd)
    await until(lambda: descriptors() == before + 1)  # the daemon's end of the connection
    assert not daemon.upcalls
    caller.close()


async def test_a_daemon_out_of_descriptors_says_try_again(daemon: Daemon, transport: socket.socket) -> None:
    caller = connect(daemon)
    send(caller, header(), [])
    await receive(caller)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
    try:
        send(caller, encode_request(REQUEST, 5), [transport.fileno()])
        assert await receive(caller) == (5, Done(status=errno.EAGAIN, reason="the daemon is out of descriptors"))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    daemon.answer = Done(status=0)
    send(caller, encode_request(REQUEST, 6), [transport.fileno()])
    assert await receive(caller) == (6, Done(status=0))
    caller.close()


@pytest.mark.parametrize("packet", [header(), header(command=3), encode_request(REQUEST, 77), b"nonsense"])
async def test_a_descriptor_that_blocks_as_it_is_closed_stops_nobody(
    daemon: Daemon, transport: socket.socket, packet: bytes
) -> None:
    def refuse(upcall: Upcall) -> None:
        raise RuntimeError("no worker")

    with Lingering() as lingering:
        daemon.take = refuse  # type: ignore[method-assign]
        daemon.server.close()
        daemon.server = UpcallServer(daemon.path, refuse)
        daemon.server.open()
        caller = connect(daemon)
        send(caller, packet, [lingering.fileno()])
        lingering.sock.close()
        start = time.monotonic()
        assert (await handshake(REQUEST, transport, path=daemon.path)).status == errno.EIO
        assert time.monotonic() - start < lingering.seconds / 2
        caller.close()


async def test_more_descriptors_than_right_do_not_block_either(daemon: Daemon, transport: socket.socket) -> None:
    daemon.answer = Done(status=0)
    with Lingering() as lingering:
        caller = connect(daemon)
        send(caller, header(), [transport.fileno()] * 100 + [lingering.fileno()])
        lingering.sock.close()
        start = time.monotonic()
        assert (await handshake(REQUEST, transport, path=daemon.path)).status == 0
        assert time.monotonic() - start < lingering.seconds / 2
        caller.close()


async def test_what_waits_unread_does_not_block_the_end(daemon: Daemon) -> None:
    with Lingering() as lingering:
        caller = connect(daemon)
        send(caller, header(), [])
        await receive(caller)
        send(caller, header(), [lingering.fileno()])
        lingering.sock.close()
        start = time.monotonic()
        daemon.server.close()
        assert time.monotonic() - start < lingering.seconds / 2
        caller.close()


async def test_who_blocks_closing_has_to_wait(
    tmp_path: Path, transport: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("netlink.upcall.connection.PAUSE", 0.01)
    daemon = Daemon(tmp_path, limits=Limits(closing_per_user=3))
    daemon.answer = Done(status=0)
    with Lingering() as lingering:
        caller = connect(daemon)
        send(caller, header(command=3), [lingering.fileno()])
        lingering.sock.close()
        await receive(caller)
        for _ in range(10):
            send(caller, header(command=3), [transport.fileno()])
        await asyncio.sleep(0.1)
        assert still_open(os.getuid()) == 4
        lingering.release()
        for _ in range(10):
            assert (await receive(caller))[1].status == errno.EINVAL
    caller.close()
    daemon.close()


async def test_a_caller_does_not_fill_the_log(
    daemon: Daemon, transport: socket.socket, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", "netlink")
    for _ in range(100):
        caller = connect(daemon)
        send(caller, b"nonsense", [transport.fileno()])
        assert await asyncio.wait_for(asyncio.get_running_loop().sock_recv(caller, 100), 5) == b""
        caller.close()
    assert len(caplog.records) < 50
    await until(lambda: "more lines like these" in caplog.text)


async def test_a_sockfd_in_the_request_is_not_believed(daemon: Daemon, transport: socket.socket) -> None:
    caller = connect(daemon)
    attributes = encode_accept(Accept(sockfd=0))
    send(caller, encode_message(MESSAGE_TYPE, 1, 1, 2, 1, attributes), [transport.fileno()])
    upcall = await daemon.next()
    assert upcall.accept.sockfd == upcall.sock_fd != 0
    daemon.end(upcall, Done())
    caller.close()


async def test_a_thousand_malformed_upcalls_leak_nothing(daemon: Daemon, transport: socket.socket) -> None:
    daemon.answer = Done(status=0)
    chance = random.Random(42)
    good = encode_request(REQUEST, 5)
    before = descriptors()
    for _ in range(1000):
        packet = bytearray(good)
        for _ in range(chance.randint(1, 4)):
            packet[chance.randrange(len(packet))] = chance.randrange(256)
        caller = connect(daemon)
        with_fds = [transport.fileno()] * chance.choice((0, 1, 1, 2, 5))
        send(caller, bytes(packet[: chance.randint(0, len(packet))]), with_fds)
        await asyncio.sleep(0)
        caller.close()
    await until(lambda: descriptors() == before)
    assert (await handshake(REQUEST, transport, path=daemon.path)).status == 0


async def test_a_flood_costs_only_its_own_connection(daemon: Daemon, transport: socket.socket) -> None:
    caller = connect(daemon)
    answers: list[tuple[int, Done]] = []
    await flood(caller, transport, 400)
    while len(answers) < 400 - 256:
        answers.append(await receive(caller))
    assert {done.status for _, done in answers} == {errno.EAGAIN}
    assert len(daemon.upcalls) == 256
    other = asyncio.create_task(handshake(REQUEST, transport, path=daemon.path))
    daemon.end(await daemon.next(257), Done(status=0))
    assert (await other).status == 0
    caller.close()
    await until(lambda: len(daemon.cancelled) == 256)
    for upcall in daemon.upcalls[:256]:
        os.close(upcall.sock_fd)


async def test_the_bound_of_a_user(tmp_path: Path, transport: socket.socket) -> None:
    daemon = Daemon(tmp_path, limits=Limits(connections_per_user=3, upcalls_per_user=2))
    callers = [connect(daemon) for _ in range(3)]
    for number, caller in enumerate(callers):
        send(caller, encode_request(REQUEST, number), [transport.fileno()])
    await daemon.next(2)
    assert await receive(callers[2]) == (2, Done(status=errno.EAGAIN, reason="too many upcalls are outstanding"))
    one_more = connect(daemon)
    assert await asyncio.wait_for(asyncio.get_running_loop().sock_recv(one_more, 100), 5) == b""
    callers.pop().close()
    await asyncio.sleep(0.01)
    callers.append(connect(daemon))
    daemon.end(daemon.upcalls[0], Done())
    send(callers[-1], encode_request(REQUEST, 3), [transport.fileno()])
    await daemon.next(3)
    for upcall in daemon.upcalls[1:]:
        daemon.end(upcall, Done())
    for caller in [*callers, one_more]:
        caller.close()
    daemon.close()


async def test_who_does_not_read_is_cut_off(tmp_path: Path, transport: socket.socket) -> None:
    daemon = Daemon(tmp_path, limits=Limits(unread=1 << 18))
    daemon.answer = Done(status=0, peer_chain=(b"x" * 60000,))
    caller = connect(daemon)
    with pytest.raises(ConnectionError):
        await flood(caller, transport, 5000)
    assert (await handshake(REQUEST, transport, path=daemon.path)).status == 0
    caller.close()
    daemon.close()


async def test_answers_wait_for_a_slow_reader(daemon: Daemon, transport: socket.socket) -> None:
    daemon.answer = Done(status=0, peer_chain=(b"x" * 60000,))
    caller = connect(daemon)
    for sequence in range(1, 16):
        send(caller, encode_request(REQUEST, sequence), [transport.fileno()])
    await daemon.next(15)
    assert [(await receive(caller))[0] for _ in range(15)] == list(range(1, 16))
    caller.close()


async def test_a_long_chain_fits(daemon: Daemon, transport: socket.socket) -> None:
    daemon.answer = Done(status=0, peer_chain=(b"x" * 50000,) * 4)
    assert await handshake(REQUEST, transport, path=daemon.path) == daemon.answer


@pytest.mark.parametrize("chain", [(b"x" * 65000,) * 40, (b"x" * 65532,)])
async def test_a_chain_that_does_not_fit_is_left_out(
    daemon: Daemon, transport: socket.socket, caplog: pytest.LogCaptureFixture, chain: tuple[bytes, ...]
) -> None:
    daemon.answer = Done(status=0, alpn=b"h3", peer_chain=chain)
    assert await handshake(REQUEST, transport, path=daemon.path) == Done(status=0, alpn=b"h3")
    assert "without PEER_CERTIFICATE" in caplog.text


async def test_an_answer_that_can_not_be_said_is_a_failure(
    daemon: Daemon, transport: socket.socket, caplog: pytest.LogCaptureFixture
) -> None:
    daemon.answer = Done(status=0, reason="a\0b")
    assert (await handshake(REQUEST, transport, path=daemon.path)).status == errno.EIO
    assert "REASON" in caplog.text


@pytest.mark.parametrize("wrong", [Done(status=5000), Done(status=-1), Done(status=0, entry="e" * 70000)])
async def test_no_chain_is_blamed_that_is_not_there(
    daemon: Daemon, transport: socket.socket, caplog: pytest.LogCaptureFixture, wrong: Done
) -> None:
    daemon.answer = wrong
    assert (await handshake(REQUEST, transport, path=daemon.path)).status == errno.EIO
    assert "PEER_CERTIFICATE" not in caplog.text
    assert "can't be sent as it is" in caplog.text


async def test_a_long_reason_is_cut(daemon: Daemon, transport: socket.socket, caplog: pytest.LogCaptureFixture) -> None:
    daemon.answer = Done(status=errno.EACCES, alert=42, reason="x" + "\u00fc" * 50000, peer_chain=(b"der",))
    done = await handshake(REQUEST, transport, path=daemon.path)
    assert done == Done(status=errno.EACCES, alert=42, reason="x" + "\u00fc" * 511, peer_chain=(b"der",))
    daemon.answer = Done(status=errno.EACCES, reason="\udc80")
    assert (await handshake(REQUEST, transport, path=daemon.path)).reason == "\\udc80"
    assert not caplog.records


async def test_an_answer_that_is_malformed(tmp_path: Path, transport: socket.socket) -> None:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(str(tmp_path / "s"))
    listener.listen()

    def daemon() -> None:
        with listener.accept()[0] as caller:
            sequence = struct.unpack_from("=I", caller.recv(1000), 8)[0]
            caller.send(encode_message(MESSAGE_TYPE, 0, sequence, 3, 1, b"\1\0\0\0"))

    thread = threading.Thread(target=daemon)
    thread.start()
    with pytest.raises(ValueError, match="nla_len"):
        await handshake(REQUEST, transport, path=str(tmp_path / "s"))
    thread.join()
    listener.close()


# The path


async def test_the_path_and_its_mode(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path, mode=0o620)
    status = os.stat(daemon.path)
    assert stat.S_ISSOCK(status.st_mode)
    assert stat.S_IMODE(status.st_mode) == 0o620
    daemon.close()
    daemon.close()
    assert not os.path.exists(daemon.path)


async def test_a_dead_daemons_socket_is_replaced(tmp_path: Path, transport: socket.socket) -> None:
    dead = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    dead.bind(str(tmp_path / "handshake.sock"))
    dead.close()
    daemon = Daemon(tmp_path)
    daemon.answer = Done(status=0)
    assert (await handshake(REQUEST, transport, path=daemon.path)).status == 0
    daemon.close()


async def test_a_live_daemons_socket_is_not(daemon: Daemon, tmp_path: Path, transport: socket.socket) -> None:
    daemon.answer = Done(status=0)
    with pytest.raises(OSError, match="another process listens here") as caught:
        Daemon(tmp_path)
    assert caught.value.errno == errno.EADDRINUSE
    assert (await handshake(REQUEST, transport, path=daemon.path)).status == 0


async def test_a_file_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "handshake.sock").write_text("precious")
    with pytest.raises(OSError, match="not a socket"):
        Daemon(tmp_path)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        Daemon(tmp_path / "nowhere")
    assert (tmp_path / "handshake.sock").read_text() == "precious"


async def test_a_socket_between_bind_and_listen_is_not_taken_for_dead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chmod = os.chmod
    outcome: list[OSError] = []

    def meanwhile(path: str, mode: int) -> None:
        monkeypatch.setattr(os, "chmod", chmod)
        with pytest.raises(OSError, match="another process begins to listen here") as caught:
            Daemon(tmp_path)
        outcome.append(caught.value)
        chmod(path, mode)

    monkeypatch.setattr(os, "chmod", meanwhile)
    first = Daemon(tmp_path)
    assert [error.errno for error in outcome] == [errno.EADDRINUSE]
    connect(first).close()
    first.close()


async def test_without_a_group_there_is_no_chown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(os, "chown", lambda path, user, group: asked.append(group))
    Daemon(tmp_path).close()
    assert asked == []
    Daemon(tmp_path, group=os.getgid()).close()
    assert asked == [os.getgid()]


@pytest.mark.parametrize("step", ["chown", "chmod"])
async def test_what_can_not_be_set_up_leaves_no_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def refuse(*arguments: object) -> None:
        raise PermissionError(errno.EPERM, "not permitted")

    before = descriptors()
    with monkeypatch.context() as patched:
        patched.setattr(os, step, refuse)
        with pytest.raises(PermissionError, match=r"handshake\.sock"):
            Daemon(tmp_path, group=os.getgid())
    assert not (tmp_path / "handshake.sock").exists()
    assert descriptors() == before
    Daemon(tmp_path).close()


async def test_a_successors_socket_survives_our_end(daemon: Daemon, tmp_path: Path) -> None:
    os.rename(daemon.path, tmp_path / "aside")
    successor = Daemon(tmp_path)
    daemon.close()
    assert os.path.exists(successor.path)
    successor.close()


async def test_a_listener_that_is_handed_over(tmp_path: Path, transport: socket.socket) -> None:
    path = str(tmp_path / "activated.sock")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(path)
    listener.listen()

    def accept(upcall: Upcall) -> None:
        os.close(upcall.sock_fd)
        upcall.done(Done(status=0))

    server = UpcallServer(None, accept, listener=listener)
    server.open()
    assert (await handshake(REQUEST, transport, path=path)).status == 0
    server.close()
    assert os.path.exists(path), "systemd's socket is systemd's to remove"
