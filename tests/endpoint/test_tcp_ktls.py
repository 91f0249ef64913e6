"""The TCP endpoint, both ends ours, over loopback: what goes over the wire, what stays in the socket, how it ends.

The wire is a pair of connections with a relay between, so that a test can see and cut what goes each way. TLS in the
kernel is replaced by the same in user space; what the kernel would be told is compared with linux/tls.h.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import struct
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from time import time

import pytest
import pytest_asyncio

from quic_tlshd.endpoint.interface import EndpointError, Settings
from quic_tlshd.endpoint.tcp_ktls import KernelTls, TcpEndpoint, kernel_cipher_suites
from quic_tlshd.tls.alert import AlertDescription as A
from quic_tlshd.tls.alert import PeerAlertError, PeerError
from quic_tlshd.tls.events import Complete, InstallSecret, PeerTransportParameters, Selected, SendMessage, SkipEarlyData
from quic_tlshd.tls.iana import CipherSuite, NamedGroup
from quic_tlshd.tls.parameters import Direction, Level
from quic_tlshd.tls.protection import Protection, TrafficKeys
from quic_tlshd.tls.record import ContentType
from quic_tlshd.uapi.tls import CipherType, CryptoInfo
from quic_tlshd.worker.worker import open_endpoint
from tests.interop.party import NAME, TIMEOUT, UserspaceTls, client_parameters, secure, server_parameters
from tests.peers import pki

ROOT = pki.Authority("a root")
SERVER = ROOT.issue((NAME,))
SUITE = CipherSuite.TLS_AES_128_GCM_SHA256
MESSAGE = b"\x08\x00\x00\x05hello"
PLAIN_MESSAGE = bytes.fromhex("1603030009") + MESSAGE


class Relay:
    """Carries bytes one way, `size` at a time, unless it is held. carried: all of them."""

    def __init__(self, source: socket.socket, sink: socket.socket, size: int) -> None:
        self.carried = b""
        self.flowing = asyncio.Event()
        self.flowing.set()
        self._task = asyncio.create_task(self._run(source, sink, size))

    async def _run(self, source: socket.socket, sink: socket.socket, size: int) -> None:
        loop = asyncio.get_running_loop()
        sink.setsockopt(socket.SOL_TCP, socket.TCP_NODELAY, 1)
        while data := await loop.sock_recv(source, size):
            if not self.flowing.is_set():
                await self.flowing.wait()
                with suppress(BlockingIOError):
                    data += source.recv(1 << 16)  # what came meanwhile
            self.carried += data
            await loop.sock_sendall(sink, data)

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


class Wire:
    """A client's and a server's socket, and what lies between."""

    def __init__(self, size: int = 1 << 16) -> None:
        self.client, near = connected()
        far, self.server = connected()
        self._inner = (near, far)
        for sock in self._inner:
            sock.setblocking(False)
        self.up, self.down = Relay(near, far, size), Relay(far, near, size)

    async def close(self) -> None:
        await asyncio.gather(self.up.stop(), self.down.stop())
        for sock in (self.client, self.server, *self._inner):
            sock.close()


def connected() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        return client, listener.accept()[0]


@pytest_asyncio.fixture
async def wire() -> AsyncIterator[Wire]:
    wire = Wire()
    yield wire
    await wire.close()


@pytest.fixture
def pair() -> Iterator[tuple[TcpEndpoint, socket.socket]]:
    """An endpoint and its peer's socket."""
    ours, peer = connected()
    peer.settimeout(TIMEOUT)
    endpoint = TcpEndpoint(ours, UserspaceTls(ours))
    yield endpoint, peer
    endpoint.close()
    peer.close()


async def handshake(
    wire: Wire, *, cipher_suite: CipherSuite = SUITE, **server: tuple[NamedGroup, ...]
) -> tuple[UserspaceTls, UserspaceTls, Complete]:
    """Both ends, connected and secure; the client's view of it."""
    client, server_end = UserspaceTls(wire.client), UserspaceTls(wire.server)
    complete, _ = await asyncio.gather(
        secure(client, client_parameters(ROOT, cipher_suites=(cipher_suite,))),
        secure(server_end, server_parameters(SERVER, **server), SERVER),
    )
    return client, server_end, complete


async def exchange(client: UserspaceTls, server: UserspaceTls) -> None:
    """Data both ways."""
    await client.write(b"request")
    assert await server.read() == b"request"
    await server.write(b"response")
    assert await client.read() == b"response"


def records(stream: bytes) -> list[str]:
    """Each record's content type and version, in hex."""
    found = []
    while stream:
        found.append(stream[:3].hex())
        stream = stream[5 + int.from_bytes(stream[3:5], "big") :]
    return found


# whole handshakes


@pytest.mark.parametrize("suite", list(CipherSuite))
async def test_each_cipher_suite(wire: Wire, suite: CipherSuite) -> None:
    client, server, complete = await handshake(wire, cipher_suite=suite)
    assert complete.cipher_suite is suite
    await exchange(client, server)


async def test_byte_by_byte() -> None:
    wire = Wire(size=1)
    await exchange(*(await handshake(wire))[:2])
    await wire.close()


async def test_middleboxes_see_a_tls_1_2_resumption(wire: Wire) -> None:
    await handshake(wire)
    assert records(wire.up.carried) == ["160301", "140303", "170303"]
    assert records(wire.down.carried) == ["160303", "140303", "170303"]


async def test_middleboxes_see_it_once_around_a_retry(wire: Wire) -> None:
    _, _, complete = await handshake(wire, groups=(NamedGroup.SECP384R1,))
    assert complete.group is NamedGroup.SECP384R1
    assert records(wire.up.carried) == ["160301", "140303", "160303", "170303"]
    assert records(wire.down.carried) == ["160303", "140303", "160303", "170303"]


async def test_without_compatibility_mode_nobody_pretends(wire: Wire) -> None:
    await asyncio.gather(
        secure(UserspaceTls(wire.client), client_parameters(ROOT, compatibility_mode=False)),
        secure(UserspaceTls(wire.server), server_parameters(SERVER), SERVER),
    )
    assert records(wire.up.carried) == ["160303", "170303"]
    assert records(wire.down.carried) == ["160303", "170303"]


async def test_data_right_behind_the_finished_is_not_lost(wire: Wire) -> None:
    client, server = UserspaceTls(wire.client), UserspaceTls(wire.server)
    serving = asyncio.create_task(secure(server, server_parameters(SERVER), SERVER))
    waits = []

    def hold_the_finished() -> None:
        waits.append(None)
        if len(waits) == 2:  # first for the ServerHello, then for the rest
            wire.up.flowing.clear()

    await secure(client, client_parameters(ROOT), during=hold_the_finished)
    await client.write(b"first")
    await client.write(b"second")
    await asyncio.sleep(0.05)
    assert not serving.done()
    wire.up.flowing.set()
    await serving
    assert [await server.read(), await server.read()] == [b"first", b"second"]
    await exchange(client, server)


# the socket


@pytest.mark.parametrize("blocking", [True, False])
@pytest.mark.parametrize("nodelay", [0, 1])
async def test_the_socket_is_as_it_was(wire: Wire, blocking: bool, nodelay: int) -> None:
    wire.server.setblocking(blocking)
    wire.server.setsockopt(socket.SOL_TCP, socket.TCP_NODELAY, nodelay)
    server = UserspaceTls(wire.server)
    during: list[int] = []
    await asyncio.gather(
        secure(UserspaceTls(wire.client), client_parameters(ROOT)),
        secure(server, server_parameters(SERVER), SERVER, lambda: during.append(nagle_is_off(wire.server))),
    )
    assert set(during) == {1}
    assert nagle_is_off(wire.server) == nodelay
    assert wire.server.getblocking() is blocking


def nagle_is_off(sock: socket.socket) -> int:
    return int(bool(sock.getsockopt(socket.SOL_TCP, socket.TCP_NODELAY)))


async def test_nagle_comes_back_after_a_failure_too() -> None:
    ours, peer = connected()
    with ours, peer:
        endpoint = TcpEndpoint(ours.dup(), UserspaceTls(ours))
        await endpoint.settings()
        assert nagle_is_off(ours)
        endpoint.close()
        assert not nagle_is_off(ours)


async def test_no_byte_beyond_the_record_is_read(pair: tuple[TcpEndpoint, socket.socket]) -> None:
    endpoint, peer = pair
    peer.sendall(PLAIN_MESSAGE + b"anything")
    assert await endpoint.receive() == (Level.INITIAL, MESSAGE)
    assert endpoint._sock.recv(100) == b"anything"


async def test_early_data_that_nobody_takes(pair: tuple[TcpEndpoint, socket.socket]) -> None:
    endpoint, peer = pair
    await endpoint.apply(SkipEarlyData(100))
    peer.sendall(bytes.fromhex("1703030018") + bytes(24) + PLAIN_MESSAGE)
    assert await endpoint.receive() == (Level.INITIAL, MESSAGE)


async def test_settings(pair: tuple[TcpEndpoint, socket.socket]) -> None:
    assert await pair[0].settings() == Settings(record_size_limit=16385)
    ours, peer = connected()
    with peer:
        endpoint = TcpEndpoint(ours, UserspaceTls(ours, cipher_suites=(0x1302,)))
        assert (await endpoint.settings()).cipher_suites == (0x1302,)
        endpoint.close()


async def test_a_peer_that_reads_late(pair: tuple[TcpEndpoint, socket.socket]) -> None:
    endpoint, peer = pair
    endpoint._sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    flight = MESSAGE * 300_000
    await endpoint.apply(SendMessage(Level.INITIAL, bytes(38) + b"\0" + flight))
    sending = asyncio.create_task(endpoint.receive())
    await asyncio.sleep(0.05)
    got = await asyncio.to_thread(read_records, peer, 39 + len(flight))
    assert got == bytes(39) + flight
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)


def read_records(peer: socket.socket, size: int) -> bytes:
    got = b""
    with peer.makefile("rb") as stream:
        while len(got) < size:
            header = stream.read(5)
            got += stream.read(int.from_bytes(header[3:], "big"))
    return got


async def test_a_peer_that_goes(pair: tuple[TcpEndpoint, socket.socket]) -> None:
    endpoint, peer = pair
    peer.send(PLAIN_MESSAGE[:7])
    peer.shutdown(socket.SHUT_WR)
    with pytest.raises(EndpointError, match="closed the connection during the handshake") as gone:
        await endpoint.receive()
    assert gone.value.errno == errno.ECONNRESET


async def test_an_owner_that_gives_up() -> None:
    """It shuts down a socket that we have too, and the wait for a silent peer is over at once."""
    owners, peer = connected()
    with owners, peer:
        endpoint = TcpEndpoint(owners.dup(), UserspaceTls(owners))
        waiting = asyncio.create_task(endpoint.receive())
        await asyncio.sleep(0.05)
        owners.shutdown(socket.SHUT_RDWR)
        async with asyncio.timeout(1):
            with pytest.raises(EndpointError, match="was shut down by its owner") as gone:
                await waiting
        assert gone.value.errno == errno.ECANCELED
        endpoint.close()


async def test_a_peer_that_resets(pair: tuple[TcpEndpoint, socket.socket]) -> None:
    endpoint, peer = pair
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()
    with pytest.raises(EndpointError, match="receiving: ") as gone:
        await endpoint.receive()
    assert gone.value.errno == errno.ECONNRESET
    await endpoint.apply(SendMessage(Level.INITIAL, bytes(39)))
    with pytest.raises(EndpointError, match="sending: "):
        await endpoint.receive()


async def test_a_flood_of_tiny_records_leaves_others_their_turn(pair: tuple[TcpEndpoint, socket.socket]) -> None:
    endpoint, peer = pair
    peer.sendall(bytes.fromhex("160303000108") * 100)
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    for _ in range(100):
        await endpoint.receive()
    assert turns >= 3
    task.cancel()


# events


def install(level: Level, direction: Direction) -> InstallSecret:
    return InstallSecret(level, direction, SUITE, bytes((level, direction is Direction.SEND)) * 16)


def protection(level: Level, direction: Direction) -> Protection:
    """The peer's, for what we send or receive at that level."""
    return Protection(TrafficKeys.derive(SUITE, install(level, direction).secret))


async def test_levels_and_keys_follow_the_secrets(pair: tuple[TcpEndpoint, socket.socket]) -> None:
    endpoint, peer = pair
    await endpoint.apply(PeerTransportParameters(b"ignored"))
    await endpoint.apply(Selected(b"h3", None, "entry"))
    await endpoint.apply(install(Level.HANDSHAKE, Direction.RECEIVE))
    peer.sendall(protection(Level.HANDSHAKE, Direction.RECEIVE).seal(ContentType.HANDSHAKE, MESSAGE, 100))
    assert await endpoint.receive() == (Level.HANDSHAKE, MESSAGE)


async def test_what_is_sent_under_the_application_keys_is_counted() -> None:
    ours, peer = connected()
    with ours, peer:
        connection = UserspaceTls(ours)
        endpoint = TcpEndpoint(ours.dup(), connection)
        for direction in Direction:
            await endpoint.apply(install(Level.APP, direction))
        await endpoint.apply(SendMessage(Level.APP, bytes(38) + b"\0"))
        await endpoint.finish()
        endpoint.close()
        assert connection.send is not None
        assert connection.receive is not None
        assert (connection.send.sequence, connection.receive.sequence) == (1, 0)
        record = peer.recv(1000)
        assert protection(Level.APP, Direction.SEND).open(record[:5], record[5:]) == (ContentType.HANDSHAKE, bytes(39))


# failures


async def test_an_alert_before_the_keys_is_plain_and_then_we_close(pair: tuple[TcpEndpoint, socket.socket]) -> None:
    endpoint, peer = pair
    peer.sendall(bytes(100_000))  # which we don't read, and which must not turn the close into a reset
    await asyncio.sleep(0.01)
    await endpoint.fail(A.UNKNOWN_CA, "unknown_ca")
    endpoint.close()
    assert peer.recv(100) == bytes.fromhex("15030300020230")
    assert peer.recv(100) == b""


@pytest.mark.parametrize("level", [Level.HANDSHAKE, Level.APP])
async def test_alerts_go_under_the_newest_keys(pair: tuple[TcpEndpoint, socket.socket], level: Level) -> None:
    """RFC 8446 section 4.4.4: a server's alert for the client's certificate is under the application keys."""
    endpoint, peer = pair
    await endpoint.apply(install(Level.HANDSHAKE, Direction.SEND))
    await endpoint.apply(install(level, Direction.SEND))
    await endpoint.fail(A.BAD_CERTIFICATE, "bad_certificate")
    record = peer.recv(100)
    assert protection(level, Direction.SEND).open(record[:5], record[5:]) == (ContentType.ALERT, b"\x02\x2a")


@pytest.mark.parametrize("at", ["client", "server"])
async def test_both_sides_know_why(wire: Wire, at: str) -> None:
    """The client does not trust the server; the server gets no share that it could use."""
    stranger = pki.Authority("a stranger")
    parameters = client_parameters(stranger if at == "client" else ROOT)
    group = NamedGroup.SECP521R1 if at == "server" else NamedGroup.X25519
    client, server = await asyncio.gather(
        secure(UserspaceTls(wire.client), replace(parameters, groups=(NamedGroup.X25519,))),
        secure(UserspaceTls(wire.server), server_parameters(SERVER, groups=(group,)), SERVER),
        return_exceptions=True,
    )
    ours, theirs = (client, server) if at == "client" else (server, client)
    assert isinstance(ours, PeerError)
    assert ours.alert is (A.UNKNOWN_CA if at == "client" else A.HANDSHAKE_FAILURE)
    assert isinstance(theirs, PeerAlertError)
    assert theirs.description == ours.alert


async def test_records_that_are_wrong_are_the_peers_fault(pair: tuple[TcpEndpoint, socket.socket]) -> None:
    endpoint, peer = pair
    peer.sendall(b"GET / HTTP/1.1\r\n\r\n")
    with pytest.raises(PeerError, match="is it TLS"):
        await endpoint.receive()


# the kernel


class Recorder:
    """What KernelTls uses of a socket; fails with `error` at the `at`-th option."""

    def __init__(self, error: int = 0, at: int = 0) -> None:
        self.options: list[tuple[int, int, bytes]] = []
        self._error, self._at = error, at

    def setsockopt(self, level: int, option: int, value: bytes) -> None:
        if self._error and len(self.options) == self._at:
            raise OSError(self._error, "no")
        self.options.append((level, option, value))


def installed(suite: CipherSuite, send_limit: int = (1 << 14) + 1) -> list[tuple[int, int, bytes]]:
    """The options, in order; the keys count up from 0x10 and 0x90."""
    recorder = Recorder()
    length = 16 if "128" in suite.name else 32
    send = Protection(TrafficKeys(suite, b"", bytes(range(0x10, 0x10 + length)), bytes(range(12))))
    receive = Protection(TrafficKeys(suite, b"", bytes(range(0x90, 0x90 + length)), bytes(range(100, 112))))
    send.sequence = 1
    KernelTls().install(recorder, send, receive, send_limit)  # type: ignore[arg-type]
    return recorder.options


little_endian = pytest.mark.skipif(sys.byteorder != "little", reason="the structures are in host byte order")


@little_endian
@pytest.mark.parametrize(
    ("suite", "number", "salted"),
    [
        (CipherSuite.TLS_AES_128_GCM_SHA256, 51, True),
        (CipherSuite.TLS_AES_256_GCM_SHA384, 52, True),
        (CipherSuite.TLS_AES_128_CCM_SHA256, 53, True),
        (CipherSuite.TLS_CHACHA20_POLY1305_SHA256, 54, False),
    ],
)
def test_keys_as_the_kernel_wants_them(suite: CipherSuite, number: int, salted: bool) -> None:
    key = bytes(range(0x10, 0x20 if "128" in suite.name else 0x30))
    iv, salt = (bytes(range(4, 12)), bytes(range(4))) if salted else (bytes(range(12)), b"")
    send, receive = installed(suite)
    assert send == (282, 1, bytes((4, 3, number, 0)) + iv + key + salt + bytes.fromhex("0000000000000001"))
    assert receive[:2] == (282, 2)
    assert receive[2][-8:] == bytes(8)
    assert len(receive[2]) == len(send[2]) == {51: 40, 52: 56, 53: 40, 54: 56}[number]


@little_endian
def test_the_peers_record_size_limit_is_the_kernels_too() -> None:
    options = installed(SUITE, send_limit=512)
    assert [option for _, option, _ in options] == [1, 5, 2]
    assert options[1] == (282, 5, b"\xff\x01")  # without the type's byte


def test_keys_of_another_cipher() -> None:
    with pytest.raises(ValueError, match="AES_GCM_256 has no key of 16"):
        CryptoInfo(CipherType.AES_GCM_256, bytes(16), bytes(12)).encode()
    assert "\\x07" not in repr(CryptoInfo(CipherType.AES_GCM_128, b"\x07" * 16, b"\x07" * 12))


@contextmanager
def failing(prepare: Callable[[socket.socket], tuple[int, ...]] | None = None) -> Iterator[TcpEndpoint]:
    """An endpoint whose kernel refuses keys, or whatever `prepare` refuses."""
    ours, peer = connected()
    connection = UserspaceTls(ours)

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOENT, "No such cipher")

    connection.install = refuse  # type: ignore[method-assign]
    connection.prepare = prepare or connection.prepare  # type: ignore[method-assign]
    endpoint = TcpEndpoint(ours, connection)
    yield endpoint
    endpoint.close()
    peer.close()


@pytest.mark.parametrize("number", [errno.ENOENT, errno.ENOPROTOOPT])
async def test_a_kernel_without_tls_is_known_before_anything_is_sent(number: int) -> None:
    def prepare(_sock: socket.socket) -> tuple[int, ...]:
        raise OSError(number, "no")

    with failing(prepare) as endpoint, pytest.raises(EndpointError, match="this kernel has no TLS") as refused:
        await endpoint.settings()
    assert refused.value.errno == errno.EPROTONOSUPPORT


async def test_a_socket_that_has_tls_already() -> None:
    def prepare(_sock: socket.socket) -> tuple[int, ...]:
        raise OSError(errno.EEXIST, "File exists")

    with failing(prepare) as endpoint, pytest.raises(EndpointError, match="preparing for kernel TLS: File") as refused:
        await endpoint.settings()
    assert refused.value.errno == errno.EEXIST


async def test_a_kernel_that_refuses_the_keys() -> None:
    with failing() as endpoint:
        for direction in Direction:
            await endpoint.apply(install(Level.APP, direction))
        with pytest.raises(EndpointError, match="giving the keys to the kernel: No such cipher"):
            await endpoint.finish()


async def test_this_machines_kernel() -> None:
    """It either has TLS and says with which ciphers, or the refusal is clear."""
    ours, peer = connected()
    with peer:
        endpoint = open_endpoint(ours.detach())
        assert isinstance(endpoint, TcpEndpoint)
        suites = kernel_cipher_suites()
        if suites:
            assert SUITE in suites
            assert await endpoint.settings() == Settings(cipher_suites=suites)
        else:
            with pytest.raises(EndpointError, match="this kernel has no TLS"):
                await endpoint.settings()
        endpoint.close()


@pytest.mark.parametrize("tickets", [1, 2, 8])
async def test_tickets_count_in_the_sequence_numbers(wire: Wire, tickets: int) -> None:
    """RFC 8446 section 5.3: they are the first records under the server's application key."""
    client, server = UserspaceTls(wire.client), UserspaceTls(wire.server)
    given = server_parameters(SERVER)
    choice = replace(given.choose(None, ()), tickets=tickets)
    wants = replace(client_parameters(ROOT), tickets=True, now=time)
    await asyncio.gather(
        secure(client, wants), secure(server, replace(given, choose=lambda _n, _a: choice, now=time), SERVER)
    )
    assert server.send is not None
    assert server.send.sequence == 1  # one flight, one record
    await exchange(client, server)
    assert client.tickets == 1
