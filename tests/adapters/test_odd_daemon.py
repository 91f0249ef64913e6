"""The adapter and a daemon that does not do what a daemon does. Whatever it is, the connection ends and says why."""

from __future__ import annotations

import asyncio
import errno
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import ConnectionTerminated
from aioquic.quic.packet import QuicErrorCode

from netlink.handshake import Accept, Done
from netlink.upcall import Upcall, UpcallServer
from quic_tlshd.adapters.aioquic import Connection, Daemon
from quic_tlshd.endpoint.userspace_protocol import Message, MessageType, encode_settings
from quic_tlshd.tls.parameters import Level

TIMEOUT = 20.0


@contextmanager
def odd_daemon(answer: Callable[[Upcall, socket.socket], None]) -> Iterator[Daemon]:
    """`answer` gets each upcall and its socket, and is all that this daemon does."""
    kept: list[socket.socket] = []

    def accept(upcall: Upcall) -> None:
        kept.append(socket.socket(fileno=upcall.sock_fd))
        answer(upcall, kept[-1])

    with tempfile.TemporaryDirectory() as directory:
        path = str(Path(directory) / "sock")
        server = UpcallServer(path, accept)
        server.open()
        try:
            yield Daemon(path, patience=0.2)
        finally:
            server.close()
            for sock in kept:
                sock.close()


def done(upcall: Upcall, _: socket.socket) -> None:
    upcall.done(Done(0))


def failed_with_alert(upcall: Upcall, _: socket.socket) -> None:
    upcall.done(Done(errno.EACCES, alert=49, reason="not you"))


def early_data(upcall: Upcall, sock: socket.socket) -> None:
    sock.send(Message(MessageType.CRYPTO, Level.EARLY, body=b"?").encode())


def an_unknown_cipher(upcall: Upcall, sock: socket.socket) -> None:
    sock.send(Message(MessageType.SEND_SECRET, Level.HANDSHAKE, 0x1399, bytes(32)).encode())


def a_cipher_that_was_not_offered(upcall: Upcall, sock: socket.socket) -> None:
    sock.send(Message(MessageType.SEND_SECRET, Level.HANDSHAKE, 0x1304, bytes(32)).encode())


def news_then_an_alert(upcall: Upcall, sock: socket.socket) -> None:
    sock.send(b"")
    sock.send(b"\x05")
    sock.send(Message(200, body=b"from a later version").encode())
    sock.send(Message(MessageType.ALERT, argument=40, body="nö".encode()).encode())


def silence(upcall: Upcall, sock: socket.socket) -> None:
    pass


UNDERSTANDABLE = "the handshake daemon can't be understood"
NOT_HERE = "the TLS handshake can't be done here"


@pytest.mark.parametrize(
    ("answer", "code", "phrase"),
    [
        (done, QuicErrorCode.INTERNAL_ERROR, NOT_HERE),
        (failed_with_alert, QuicErrorCode.CRYPTO_ERROR + 49, ""),
        (early_data, QuicErrorCode.INTERNAL_ERROR, UNDERSTANDABLE),
        (an_unknown_cipher, QuicErrorCode.INTERNAL_ERROR, UNDERSTANDABLE),
        (a_cipher_that_was_not_offered, QuicErrorCode.INTERNAL_ERROR, UNDERSTANDABLE),
        (silence, QuicErrorCode.INTERNAL_ERROR, NOT_HERE),
    ],
)
async def test_it_ends_the_connection(answer: Callable[[Upcall, socket.socket], None], code: int, phrase: str) -> None:
    with odd_daemon(answer) as daemon:
        assert await _end(daemon) == ConnectionTerminated(code, 6, phrase)


async def test_what_is_not_known_is_ignored() -> None:
    with odd_daemon(news_then_an_alert) as daemon:
        assert await _end(daemon) == ConnectionTerminated(QuicErrorCode.CRYPTO_ERROR + 40, 6, "nö")


async def _end(daemon: Daemon) -> ConnectionTerminated:
    """How a client's connection ends; nobody is at the other side."""
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[ConnectionTerminated] = loop.create_future()
    configuration = QuicConfiguration(alpn_protocols=["h3"], server_name="localhost")
    connection = Connection(configuration=configuration, daemon=daemon, handshake_timeout=0.2)
    connection.wake = lambda: connection.datagrams_to_send(loop.time()) and None
    connection.connect(("192.0.2.1", 443), loop.time())
    async with asyncio.timeout(TIMEOUT):
        while not ended.done():
            await asyncio.sleep(0.01)
            at = connection.get_timer()
            if at is not None and at <= loop.time():
                connection.handle_timer(loop.time())
            while (event := connection.next_event()) is not None:
                if isinstance(event, ConnectionTerminated):
                    ended.set_result(event)
    return ended.result()


async def test_a_daemon_that_does_not_read_is_not_fed_for_ever() -> None:
    ended = asyncio.Event()
    with odd_daemon(silence) as daemon:
        handshake = daemon.start(Accept(message_type=2, timeout=100), encode_settings(b""), lambda *_: ended.set())

        def flood() -> None:
            for _ in range(1000):
                handshake.send(Level.INITIAL, bytes(8192))

        with pytest.raises(OverflowError, match="does not read"):
            flood()
        handshake.close()
        await asyncio.wait_for(ended.wait(), TIMEOUT)
