"""Sessions through the real daemon: tickets, resumption and early data, between several workers."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from netlink.handshake import Accept, AuthMode
from netlink.handshake import MessageType as Upcall
from netlink.upcall import UpcallConnection
from quic_tlshd.endpoint.userspace_protocol import EarlyData, Message, MessageType, encode_settings
from quic_tlshd.tls.parameters import Level
from quic_tlshd.tls.ticket import Session
from tests.peers import pki, quic_stack
from tests.peers.daemon import Daemon, entry, running
from tests.peers.quic_stack import Result
from tests.tls.playbook import split

PARAMETERS = bytes.fromhex("0404800fffff")  # initial_max_data
WORKERS = 2


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    directory = tmp_path_factory.mktemp("pki")
    root = pki.Authority("test root")
    store = directory / "root.pem"
    root.write(store)
    issued, client = root.issue(("a.example", "b.example")), root.issue(("client.example",), usage="client")
    entries = {
        "h3": entry(issued, alpn="h3", server_name="a.example", early_data="1"),
        "h3-b": entry(issued, alpn="h3", server_name="b.example", early_data="1"),
        "short": entry(issued, alpn="short", ticket_lifetime="1"),
        "none": entry(issued, alpn="none", tickets="0"),
        "many": entry(issued, alpn="many", tickets="3"),
        "mutual": entry(issued, alpn="mutual", client_certificate="require", truststore=store),
        "client": entry(None, role="client", alpn="h3;short;none;many", truststore=store, early_data="1"),
    }
    certificate, key = client.write(directory, "client")
    mine = {"x509.truststore": str(store), "x509.certificate": str(certificate), "x509.private_key": str(key)}
    with running(entries, client=mine, worker={"count": str(WORKERS)}) as daemon:
        yield daemon


@pytest.fixture
async def daemon(pair: Daemon) -> AsyncIterator[UpcallConnection]:
    async with await UpcallConnection.open(pair.socket) as connection:
        yield connection


async def handshake(daemon: UpcallConnection, **options: Any) -> Result:
    options = {"peername": "a.example", "session_wait": 5, "server_transport_parameters": PARAMETERS, **options}
    return await quic_stack.handshake(daemon, daemon, **options)


async def session_of(daemon: UpcallConnection, **options: Any) -> bytes:
    result = await handshake(daemon, **options)
    assert (result.client.status, result.server.status) == (0, 0), (result.client, result.server)
    return await result.client_stack.sessions.get()


def is_resumed(pair: Daemon, before: int) -> bool:
    """Whether both sides say so."""
    lines = pair.lines_since(before, 2)
    found = ["session resumed" in line for line in lines if " done: " in line]
    assert len(found) == 2, lines
    assert len(set(found)) == 1, lines
    return found[0]


async def test_a_session_is_resumed(pair: Daemon, daemon: UpcallConnection) -> None:
    """And again, by whichever worker, and DONE has the certificates of the first time."""
    session = await session_of(daemon)
    for _ in range(2 * WORKERS):
        before = len(pair.log())
        result = await handshake(daemon, session=session)
        assert (result.client.status, result.server.status) == (0, 0)
        assert is_resumed(pair, before)
        assert len(result.client.peer_chain) == 1
        session = await result.client_stack.sessions.get()


async def test_a_stack_that_says_nothing_of_sessions_gets_none(pair: Daemon, daemon: UpcallConnection) -> None:
    result = await handshake(daemon, session_wait=0)
    assert (result.client.status, result.server.status) == (0, 0)
    assert result.client_stack.sessions.empty()
    assert not [message for message in result.server_stack.sent if message.level is Level.APP]


async def test_the_clients_certificate_goes_along(pair: Daemon, daemon: UpcallConnection) -> None:
    mutual: dict[str, Any] = {"alpn": (b"mutual",), "auth_mode": AuthMode.X509}
    session = await session_of(daemon, **mutual)
    before = len(pair.log())
    result = await handshake(daemon, session=session, **mutual)
    assert is_resumed(pair, before)
    assert len(result.server.peer_chain) == 1
    # An anonymous client is not who showed that certificate.
    result = await handshake(daemon, session=session, session_wait=0, alpn=(b"mutual",))
    assert result.server.status != 0


@pytest.mark.parametrize(
    "options",
    [{"peername": "b.example"}, {"alpn": (b"many",)}],
    ids=["server name", "entry"],
)
async def test_what_is_another_server(pair: Daemon, daemon: UpcallConnection, options: dict[str, Any]) -> None:
    session = await session_of(daemon)
    before = len(pair.log())
    await handshake(daemon, session=session, **options)
    assert not is_resumed(pair, before)


@pytest.mark.parametrize("session", [b"no session", b"\x01" * 200, b"\x01\x13\x01" + bytes(300)])
async def test_what_is_no_session_is_ignored(pair: Daemon, daemon: UpcallConnection, session: bytes) -> None:
    before = len(pair.log())
    await handshake(daemon, session=session)
    assert not is_resumed(pair, before)


async def test_changed_tickets(pair: Daemon, daemon: UpcallConnection) -> None:
    session = bytearray(await session_of(daemon))
    decoded = Session.decode(bytes(session))
    assert decoded is not None
    at = bytes(session).index(decoded.identity)
    for offset in (0, 10, 40, len(decoded.identity) - 1):
        changed = bytearray(session)
        changed[at + offset] ^= 1
        before = len(pair.log())
        await handshake(daemon, session=bytes(changed))
        assert not is_resumed(pair, before)


async def test_a_session_expires(pair: Daemon, daemon: UpcallConnection) -> None:
    session = await session_of(daemon, alpn=(b"short",))
    await asyncio.sleep(1.1)
    before = len(pair.log())
    await handshake(daemon, session=session, alpn=(b"short",))
    assert not is_resumed(pair, before)


async def test_entries_say_how_many(pair: Daemon, daemon: UpcallConnection) -> None:
    result = await handshake(daemon, alpn=(b"many",))
    (tickets,) = [message.body for message in result.server_stack.sent if message.level is Level.APP]
    assert len(split(tickets)) == 3
    result = await asyncio.wait_for(quic_stack.handshake(daemon, daemon, alpn=(b"none",), peername="a.example"), 10)
    assert not [message for message in result.server_stack.sent if message.level is Level.APP]


async def test_a_restart_forgets_the_keys(pair: Daemon, tmp_path: Path) -> None:
    async with await UpcallConnection.open(pair.socket) as daemon:
        session = await session_of(daemon)
    pair.stop()
    pair.start()
    async with await UpcallConnection.open(pair.socket) as daemon:
        before = len(pair.log())
        await handshake(daemon, session=session)
        assert not is_resumed(pair, before)


# Early data


async def test_early_data(pair: Daemon, daemon: UpcallConnection) -> None:
    session = await session_of(daemon, early_data=True)
    before = len(pair.log())
    result = await handshake(daemon, session=session, early_data=True)
    client, server = result.client_stack, result.server_stack
    assert is_resumed(pair, before)
    assert client.early_data == [EarlyData.OFFERED, EarlyData.ACCEPTED]
    assert server.early_data == [EarlyData.ACCEPTED]
    sent = client.secrets[MessageType.SEND_SECRET, Level.EARLY]
    assert sent == server.secrets[MessageType.RECEIVE_SECRET, Level.EARLY]
    assert sum(", early data" in line for line in pair.lines_since(before, 2)) == 2


async def test_a_transport_without_early_data(pair: Daemon, daemon: UpcallConnection) -> None:
    session = await session_of(daemon, early_data=True)
    result = await handshake(daemon, session=session)
    assert result.client_stack.early_data == []
    assert (MessageType.SEND_SECRET, Level.EARLY) not in result.client_stack.secrets


async def server_hears(pair: Daemon, client_hello: bytes) -> list[int]:
    """What a server's stack is told of early data when that comes."""
    told: list[int] = []
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        ours.setblocking(False)
        ours.send(Message(MessageType.SETTINGS, body=encode_settings(PARAMETERS, early_data=True)).encode())
        ours.send(Message(MessageType.CRYPTO, Level.INITIAL, body=client_hello).encode())
        loop = asyncio.get_running_loop()
        async with await UpcallConnection.open(pair.socket) as daemon:
            request = Accept(message_type=Upcall.SERVERHELLO, auth_mode=AuthMode.X509)
            done = asyncio.create_task(daemon.handshake(request, theirs))
            while True:
                message = Message.decode(await asyncio.wait_for(loop.sock_recv(ours, 1 << 16), 10))
                if message.type == MessageType.EARLY_DATA:
                    told.append(message.argument)
                if message.type == MessageType.SEND_SECRET and message.level is Level.APP:
                    break
            ours.shutdown(socket.SHUT_RDWR)
            await done
    return told


async def test_early_data_is_taken_once_by_all_workers_together(pair: Daemon, daemon: UpcallConnection) -> None:
    session = await session_of(daemon, early_data=True)
    result = await handshake(daemon, session=session, early_data=True)
    (hello,) = [message.body for message in result.client_stack.sent if message.level is Level.INITIAL]
    replays = [await server_hears(pair, hello) for _ in range(2 * WORKERS)]
    replays += await asyncio.gather(*[server_hears(pair, hello) for _ in range(2 * WORKERS)])
    assert replays == [[]] * (4 * WORKERS)


async def test_another_server_parameter_refuses_it(daemon: UpcallConnection) -> None:
    session = await session_of(daemon, early_data=True)
    lower = bytes.fromhex("0404800ffffe")
    result = await handshake(daemon, session=session, early_data=True, server_transport_parameters=lower)
    assert result.client_stack.early_data == [EarlyData.OFFERED, EarlyData.REFUSED]
    assert (result.client.status, result.server.status) == (0, 0)


async def test_given_keys_outlive_a_restart(pair: Daemon, daemon: UpcallConnection, tmp_path: Path) -> None:
    """And early data is not taken for a while, since it may have been."""
    (pair.directory / "keys").write_text("# of today\n" + "5a" * 32 + "\n")
    (pair.directory / "keys").chmod(0o600)
    config = (pair.directory / "config").read_text()
    (pair.directory / "config").write_text(config + "\n[tickets]\nkeys=keys\n")
    pair.reload()
    session = await session_of(daemon, early_data=True)
    pair.stop()
    pair.start()
    async with await UpcallConnection.open(pair.socket) as again:
        before = len(pair.log())
        result = await handshake(again, session=session, early_data=True)
        assert is_resumed(pair, before)
        assert result.client_stack.early_data == [EarlyData.OFFERED, EarlyData.REFUSED]
    (pair.directory / "config").write_text(config)
    pair.reload()
