"""The endpoint of a user-space QUIC stack: every message both ways, and what the daemon refuses."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import socket
import struct
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress

import pytest
import pytest_asyncio

from netlink.handshake import encode_attributes
from quic_tlshd.endpoint.interface import EndpointError, Settings, TransportEvent
from quic_tlshd.endpoint.userspace import UserspaceEndpoint
from quic_tlshd.endpoint.userspace_protocol import (
    CRYPTO_CHUNK,
    MAX_CIPHER_SUITES,
    MAX_PACKET,
    MAX_SESSION_WAIT,
    MAX_TRANSPORT_PARAMETERS,
    Message,
    MessageType,
    Setting,
    decode_settings,
    encode_settings,
)
from quic_tlshd.tls.alert import AlertDescription, PeerAlertError
from quic_tlshd.tls.events import InstallSecret, PeerTransportParameters, Selected, SendMessage
from quic_tlshd.tls.iana import CipherSuite
from quic_tlshd.tls.parameters import ClientCertificate, Direction, Level
from tests.endpoint import driver

SECRET = b"\xaa" * 32
SUITE = CipherSuite.TLS_AES_128_GCM_SHA256
SETTINGS = encode_settings(b"parameters")


class Stack:
    """The QUIC stack's end of the socket."""

    def __init__(self) -> None:
        self.sock, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
        self.endpoint = UserspaceEndpoint(other)

    def send(self, kind: int, body: bytes = b"", level: Level = Level.APP, argument: int = 0) -> None:
        self.sock.send(Message(kind, level, argument, body).encode())

    async def receive(self) -> Message:
        """The next packet, of type 0 at the end."""
        packet = await asyncio.get_running_loop().sock_recv(self.sock, MAX_PACKET)
        return Message.decode(packet) if packet else Message(0)

    def close(self) -> None:
        self.endpoint.close()
        self.sock.close()


@pytest_asyncio.fixture
async def stack() -> AsyncIterator[Stack]:
    stack = Stack()
    yield stack
    stack.close()


async def refusal(call: Callable[[], object]) -> EndpointError:
    """The error that awaiting what `call` gives ends with."""
    with pytest.raises(EndpointError) as refused:
        async with asyncio.timeout(10):
            await call()  # type: ignore[misc]
    return refused.value


# from QUIC


async def test_settings(stack: Stack) -> None:
    stack.send(MessageType.SETTINGS, encode_settings(b"parameters", 2, (0x1301, 0x1303), "192.0.2.1 port 4711"))
    assert await stack.endpoint.settings() == Settings(
        transport_parameters=b"parameters",
        client_certificate=ClientCertificate.REQUIRE,
        cipher_suites=(0x1301, 0x1303),
        peer_address="192.0.2.1 port 4711",
        tickets=1,
    )


@pytest.mark.parametrize(
    ("value", "wish", "shows"),
    [
        (0, None, True),
        (1, ClientCertificate.REQUEST, True),
        (2, ClientCertificate.REQUIRE, True),
        (3, None, False),
        (4, None, True),
    ],
)
def test_certificate_request(value: int, wish: ClientCertificate | None, shows: bool) -> None:
    settings = decode_settings(encode_settings(b"", value))
    assert (settings.client_certificate, settings.present_certificate) == (wish, shows)


def test_only_the_transport_parameters_are_required() -> None:
    body = encode_attributes([(99, b"of a later version"), (int(Setting.TRANSPORT_PARAMETERS), b"")])
    assert decode_settings(body) == Settings(transport_parameters=b"", tickets=1)


def test_sessions() -> None:
    body = encode_settings(b"", session=b"kept", session_wait=5, early_data=True)
    settings = decode_settings(body)
    assert (settings.session, settings.session_wait, settings.early_data) == (b"kept", 5, True)
    assert not settings.session_first
    assert "kept" not in repr(settings)
    assert decode_settings(encode_settings(b"", session_wait=3600)).session_wait == MAX_SESSION_WAIT
    assert not decode_settings(SETTINGS + encode_attributes([(int(Setting.EARLY_DATA), bytes(4))])).early_data


@pytest.mark.parametrize(
    "body",
    [
        b"",
        encode_attributes([(int(Setting.CERTIFICATE_REQUEST), struct.pack("=I", 1))]),
        SETTINGS + encode_attributes([(int(Setting.SESSION), bytes(4097))]),
        SETTINGS + encode_attributes([(int(Setting.EARLY_DATA), b"\1")]),
        SETTINGS + encode_attributes([(int(Setting.CERTIFICATE_REQUEST), b"\1")]),
        SETTINGS + encode_attributes([(int(Setting.CIPHER_SUITE), b"\x13\x01")]),
        SETTINGS + encode_attributes([(int(Setting.TRANSPORT_PARAMETERS), b"parameters")]),
        SETTINGS + encode_attributes([(int(Setting.CERTIFICATE_REQUEST), bytes(4))]),
        encode_settings(b"", peer_address="192.0.2.1 port 1")
        + encode_attributes([(int(Setting.PEER_ADDRESS), b"192.0.2.2 port 1")]),
        encode_settings(bytes(MAX_TRANSPORT_PARAMETERS + 1)),
        encode_settings(b"", 0, (0x1301,) * (MAX_CIPHER_SUITES + 1)),
        SETTINGS[:-5],
        SETTINGS + b"\xff",
    ],
)
async def test_bad_settings(stack: Stack, body: bytes) -> None:
    stack.send(MessageType.SETTINGS, body)
    error = await refusal(stack.endpoint.settings)
    assert error.errno == errno.EINVAL
    assert str(error).startswith("bad settings: ")


def test_the_largest_settings() -> None:
    settings = decode_settings(encode_settings(bytes(MAX_TRANSPORT_PARAMETERS), 0, (0x1301,) * MAX_CIPHER_SUITES))
    assert settings.transport_parameters == bytes(MAX_TRANSPORT_PARAMETERS)
    assert len(settings.cipher_suites) == MAX_CIPHER_SUITES


@pytest.mark.parametrize(
    ("given", "logged"),
    [
        ("192.0.2.1 port 4711", "192.0.2.1 port 4711"),
        ("2001:DB8::1 port 065536", ""),
        ("2001:DB8:0::1 port 65535", "2001:db8::1 port 65535"),
        ("fe80::1%eth0.5 port 1", "fe80::1%eth0.5 port 1"),
        ("192.0.2.1 port 65536", ""),
        ("192.0.2.1 port -1", ""),
        ("192.0.2.1 port \N{ARABIC-INDIC DIGIT ONE}", ""),
        ("192.0.2.1", ""),
        ("192.0.2.1 port 1\n", ""),
        ("192.0.2.1 port 1: entry root", ""),
        ("fe80::1%\x1b[2J port 1", ""),
        ("fe80::1%a b port 1", ""),
        ("fe80::1%" + "e" * 50 + " port 1", ""),
        ("a.example port 1", ""),
        ("x" * 60000, ""),
    ],
)
def test_the_peers_address_is_one(given: str, logged: str) -> None:
    assert decode_settings(encode_settings(b"", peer_address=given)).peer_address == logged


async def test_handshake_data(stack: Stack) -> None:
    for level in Level:
        stack.send(MessageType.CRYPTO, level.name.encode(), level)
    for level in Level:
        assert await stack.endpoint.receive() == (level, level.name.encode())


async def test_handshake_data_that_comes_late(stack: Stack) -> None:
    waiting = asyncio.create_task(stack.endpoint.receive())
    await asyncio.sleep(0.01)
    stack.send(MessageType.CRYPTO, b"data", Level.INITIAL)
    assert await waiting == (Level.INITIAL, b"data")


@pytest.mark.parametrize(("number", "name"), [(48, "unknown_ca"), (57, "alert 57")])
async def test_an_alert_of_the_peers(stack: Stack, number: int, name: str) -> None:
    stack.send(MessageType.ALERT, argument=number)
    with pytest.raises(PeerAlertError, match=name) as ended:
        await stack.endpoint.receive()
    assert ended.value.description == number


@pytest.mark.parametrize("number", [0x100, 0x1FF, 0xFFFF])
async def test_an_alert_that_is_none(stack: Stack, number: int) -> None:
    stack.send(MessageType.ALERT, argument=number)
    error = await refusal(stack.endpoint.receive)
    assert (error.errno, str(error)) == (errno.EPROTO, f"there is no alert {number}")


# to QUIC


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (SendMessage(Level.HANDSHAKE, b"data"), [Message(MessageType.CRYPTO, Level.HANDSHAKE, 0, b"data")]),
        (SendMessage(Level.HANDSHAKE, b""), []),
        (
            InstallSecret(Level.HANDSHAKE, Direction.SEND, SUITE, SECRET),
            [Message(MessageType.SEND_SECRET, Level.HANDSHAKE, 0x1301, SECRET)],
        ),
        (
            InstallSecret(Level.APP, Direction.RECEIVE, SUITE, SECRET),
            [Message(MessageType.RECEIVE_SECRET, Level.APP, 0x1301, SECRET)],
        ),
        (PeerTransportParameters(b"theirs"), [Message(MessageType.PEER_TRANSPORT_PARAMETERS, body=b"theirs")]),
        (Selected(b"h3", "a.example", "entry"), [Message(MessageType.SELECTED_ALPN, body=b"h3")]),
        (Selected(None, "a.example", "entry"), []),
    ],
)
async def test_events(stack: Stack, event: TransportEvent, expected: list[Message]) -> None:
    await stack.endpoint.apply(event)
    await stack.endpoint.fail(AlertDescription.BAD_CERTIFICATE, "wäre")
    for message in expected:
        assert await stack.receive() == message
    assert await stack.receive() == Message(MessageType.ALERT, argument=42, body="wäre".encode())


async def test_a_long_flight_is_cut_and_a_slow_reader_waited_for(stack: Stack) -> None:
    flight = bytes(range(256)) * 8192 + b"end"  # 2 MiB, more than the socket holds
    sending = asyncio.create_task(stack.endpoint.apply(SendMessage(Level.HANDSHAKE, flight)))
    await asyncio.sleep(0.01)
    assert not sending.done()
    received = b""
    async with asyncio.timeout(10):
        while len(received) < len(flight):
            message = await stack.receive()
            assert (message.type, message.level) == (MessageType.CRYPTO, Level.HANDSHAKE)
            assert 0 < len(message.body) <= CRYPTO_CHUNK
            received += message.body
        await sending
    assert received == flight


@contextmanager
def watched() -> Iterator[None]:
    """A call that blocks the process is ended, and the test fails (the event loop may keep the error to itself)."""
    hung = []

    def hangs(*_: object) -> None:
        hung.append(True)
        raise TimeoutError("the process hangs")

    before = signal.signal(signal.SIGALRM, hangs)
    signal.alarm(5)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    assert not hung


async def test_whose_socket_it_is_may_make_it_block() -> None:
    """O_NONBLOCK is the open file description's, which the daemon shares with who sent the upcall."""
    callers, sock = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    endpoint = UserspaceEndpoint(sock.dup())
    assert os.get_blocking(sock.fileno()), "its flags are its owner's"
    os.set_blocking(sock.fileno(), True)
    with watched():
        flight = bytes(1 << 21)  # more than the socket holds
        sending = asyncio.create_task(endpoint.apply(SendMessage(Level.HANDSHAKE, flight)))
        await asyncio.sleep(0.01)
        assert not sending.done()
        taken = 0
        async with asyncio.timeout(4):
            while taken < len(flight):
                try:
                    taken += len(callers.recv(MAX_PACKET, socket.MSG_DONTWAIT)) - 4
                except BlockingIOError:
                    await asyncio.sleep(0)
            await sending
        waiting = asyncio.create_task(endpoint.receive())
        callers.send(Message(MessageType.CRYPTO, Level.INITIAL, body=b"data").encode())
        assert await waiting == (Level.INITIAL, b"data")
    endpoint.close()
    callers.close()
    sock.close()


async def test_a_packet_that_is_gone_when_it_is_read() -> None:
    """The socket was readable, and then its owner took the packet."""
    loop = asyncio.get_running_loop()
    callers, sock = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    taken = []

    def take(thief: socket.socket) -> None:
        with suppress(BlockingIOError):
            taken.append(thief.recv(MAX_PACKET, socket.MSG_DONTWAIT))

    thieves = sock.dup(), sock.dup()  # one before the endpoint and one behind it, in whatever order the loop calls
    loop.add_reader(thieves[0], take, thieves[0])
    endpoint = UserspaceEndpoint(sock.dup())
    loop.add_reader(thieves[1], take, thieves[1])
    os.set_blocking(sock.fileno(), True)
    packet = Message(MessageType.CRYPTO, Level.INITIAL, body=b"data").encode()
    with watched():
        waiting = asyncio.create_task(endpoint.receive())
        callers.send(packet)
        await asyncio.sleep(0.01)
        assert taken == [packet]
        for thief in thieves:
            loop.remove_reader(thief)
        callers.send(packet)
        assert await waiting == (Level.INITIAL, b"data")
        endpoint.close()
    for other in (callers, sock, *thieves):
        other.close()


def test_a_repr_shows_no_secret() -> None:
    event = InstallSecret(Level.APP, Direction.SEND, SUITE, SECRET)
    for shown in (repr(event), repr(Message(MessageType.SEND_SECRET, Level.APP, 0x1301, SECRET))):
        assert "xaa" not in shown


# out of order, malformed, gone


async def test_the_settings_come_first(stack: Stack) -> None:
    stack.send(MessageType.CRYPTO, b"data", Level.INITIAL)
    error = await refusal(stack.endpoint.settings)
    assert error.errno == errno.EPROTO
    assert str(error) == "message type 2 came before the settings"


@pytest.mark.parametrize("kind", sorted({*MessageType, 0, 200} - {MessageType.CRYPTO, MessageType.ALERT}))
async def test_messages_that_are_none_of_the_stacks(stack: Stack, kind: int) -> None:
    stack.send(kind, SETTINGS)
    error = await refusal(stack.endpoint.receive)
    assert error.errno == errno.EPROTO


@pytest.mark.parametrize("packet", [b"\x02", b"\x02\x01\x00", b"\x02\x04\x00\x00data", b"\x02\x01\x00\x00"])
async def test_malformed_packets(stack: Stack, packet: bytes) -> None:
    """Cut in the header, of a level that there is not, without data."""
    stack.sock.send(packet)
    error = await refusal(stack.endpoint.receive)
    assert error.errno == errno.EPROTO


@pytest.mark.parametrize("excess", [0, 1])
async def test_the_longest_packet(stack: Stack, excess: int) -> None:
    stack.send(MessageType.CRYPTO, bytes(MAX_PACKET - 4 + excess), Level.INITIAL)
    if excess:
        error = await refusal(stack.endpoint.receive)
        assert error.errno == errno.EMSGSIZE
    else:
        assert await stack.endpoint.receive() == (Level.INITIAL, bytes(MAX_PACKET - 4))


async def test_a_closed_socket(stack: Stack) -> None:
    stack.send(MessageType.CRYPTO, b"data", Level.INITIAL)
    stack.sock.close()
    await asyncio.sleep(0.01)
    assert await stack.endpoint.receive() == (Level.INITIAL, b"data")
    for _ in range(2):
        error = await refusal(stack.endpoint.receive)
        assert (error.errno, str(error)) == (errno.ECONNRESET, "the QUIC stack closed the handshake")
    error = await refusal(lambda: stack.endpoint.fail(AlertDescription.INTERNAL_ERROR, "internal_error"))
    assert error.errno in (errno.EPIPE, errno.ECONNRESET)


async def test_a_socket_that_is_closed_with_packets_unread(stack: Stack) -> None:
    """Which the kernel reports as a reset."""
    await stack.endpoint.apply(SendMessage(Level.INITIAL, b"unread"))
    waiting = asyncio.create_task(stack.endpoint.receive())
    await asyncio.sleep(0.01)
    stack.sock.close()
    error = await refusal(lambda: waiting)
    assert error.errno == errno.ECONNRESET


async def test_an_alert_that_is_followed_by_a_reset(stack: Stack) -> None:
    await stack.endpoint.apply(SendMessage(Level.INITIAL, b"which the stack never reads"))
    stack.send(MessageType.ALERT, argument=AlertDescription.UNKNOWN_CA)
    stack.sock.close()
    with pytest.raises(PeerAlertError, match="unknown_ca"):
        await stack.endpoint.receive()


async def test_a_failure_that_crosses_the_peers_alert(stack: Stack) -> None:
    """Only sending what is part of a handshake tells what the stack said before it closed."""
    stack.send(MessageType.ALERT, argument=AlertDescription.UNKNOWN_CA)
    stack.sock.close()
    error = await refusal(lambda: stack.endpoint.fail(AlertDescription.INTERNAL_ERROR, "internal_error"))
    assert error.errno == errno.EPIPE
    with pytest.raises(PeerAlertError, match="unknown_ca"):
        await stack.endpoint.apply(SendMessage(Level.INITIAL, b"data"))


async def test_a_packet_that_can_not_be_sent() -> None:
    """The stack lives and may never say a word."""
    sock, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    other.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    endpoint = UserspaceEndpoint(other)
    error = await refusal(lambda: endpoint.apply(SendMessage(Level.INITIAL, bytes(CRYPTO_CHUNK))))
    assert error.errno == errno.EMSGSIZE
    endpoint.close()
    sock.close()


async def test_a_socket_that_was_never_connected() -> None:
    endpoint = UserspaceEndpoint(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK))
    error = await refusal(endpoint.settings)
    assert error.errno == errno.ECONNRESET
    endpoint.close()


async def test_a_wait_that_is_given_up(stack: Stack) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await stack.endpoint.receive()
    stack.send(MessageType.CRYPTO, b"data", Level.INITIAL)
    assert await stack.endpoint.receive() == (Level.INITIAL, b"data")


# whole handshakes


@pytest.mark.parametrize("size", [1, 37, CRYPTO_CHUNK])
async def test_two_stacks(size: int) -> None:
    """Each passes on what its daemon sends, in pieces, and keeps what is for itself."""
    stacks = Stack(), Stack()
    kept: tuple[list[Message], list[Message]] = ([], [])

    async def carry(source: Stack, sink: Stack, keep: list[Message]) -> None:
        source.send(MessageType.SETTINGS, encode_settings(b"parameters", 2, (0x1302,)))
        while (message := await source.receive()).type:
            if message.type != MessageType.CRYPTO:
                keep.append(message)
                continue
            for at in range(0, len(message.body), size):
                sink.send(MessageType.CRYPTO, message.body[at : at + size], message.level)
                await asyncio.sleep(0)

    carriers = [
        asyncio.create_task(carry(stacks[0], stacks[1], kept[0])),
        asyncio.create_task(carry(stacks[1], stacks[0], kept[1])),
    ]
    async with asyncio.timeout(10):
        ours, theirs = await asyncio.gather(driver.client(stacks[0].endpoint), driver.server(stacks[1].endpoint))
        for stack in stacks:
            stack.endpoint.close()
        await asyncio.gather(*carriers)
    for stack in stacks:
        stack.close()
    assert ours.cipher_suite == theirs.cipher_suite == CipherSuite.TLS_AES_256_GCM_SHA384
    assert theirs.peer_chain == driver.identity("client").chain
    sent, received = (
        {(message.level, message.body) for message in messages if message.type == kind}
        for messages, kind in zip(kept, (MessageType.SEND_SECRET, MessageType.RECEIVE_SECRET), strict=True)
    )
    assert sent == received
    assert {level for level, _ in sent} == {Level.HANDSHAKE, Level.APP}
