"""`Connection` in the hands of a program that moves the datagrams itself: here straight from one to the other."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import pytest
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import ConnectionTerminated, HandshakeCompleted, QuicEvent, StreamDataReceived
from aioquic.quic.packet import QuicErrorCode

from quic_tlshd.adapters.aioquic import Connection
from quic_tlshd.adapters.remote import Daemon as Upcalls
from quic_tlshd.tls.alert import AlertDescription
from tests.peers.daemon import Daemon

CLIENT, SERVER = ("192.0.2.1", 4711), ("192.0.2.2", 443)
TIMEOUT = 20.0


@dataclass
class Pair:
    """A client and a server; `late` turns the order of what is sent in one go around."""

    daemon: Daemon
    late: bool = False
    events: dict[str, list[QuicEvent]] = field(default_factory=lambda: {"client": [], "server": []})

    def __post_init__(self) -> None:
        upcalls = Upcalls(self.daemon.socket)
        self.client = Connection(
            configuration=QuicConfiguration(alpn_protocols=["h3"], server_name="localhost"),
            daemon=upcalls,
            wake=self.move,
        )
        self.server = Connection(
            configuration=QuicConfiguration(is_client=False, alpn_protocols=["h3"]),
            daemon=upcalls,
            wake=self.move,
            original_destination_connection_id=self.client.original_destination_connection_id,
        )

    @property
    def now(self) -> float:
        return asyncio.get_running_loop().time()

    def move(self) -> None:
        """Carry datagrams until there are none, then take the events."""
        ways = ((self.client, self.server, CLIENT), (self.server, self.client, SERVER))
        moved = True
        while moved:
            moved = False
            for sender, receiver, addr in ways:
                datagrams = [data for data, _ in sender.datagrams_to_send(self.now)] if sender._network_paths else []
                for data in reversed(datagrams) if self.late else datagrams:
                    receiver.receive_datagram(data, addr, self.now)
                    moved = True
        for name, connection in (("client", self.client), ("server", self.server)):
            while (event := connection.next_event()) is not None:
                self.events[name].append(event)

    async def until(self, name: str, kind: type[Any]) -> Any:
        async with asyncio.timeout(TIMEOUT):
            while not (found := [event for event in self.events[name] if isinstance(event, kind)]):
                await asyncio.sleep(0.01)
                for connection in (self.client, self.server):
                    at = connection.get_timer() if connection._network_paths else None
                    if at is not None and at <= self.now:
                        connection.handle_timer(self.now)
                self.move()
            return found[0]


@pytest.mark.parametrize("late", [False, True], ids=["in order", "in reverse order"])
async def test_two_connections(daemon: Daemon, late: bool) -> None:
    before = len(daemon.log())
    pair = Pair(daemon, late)
    pair.client.connect(SERVER, pair.now)
    pair.move()
    await pair.until("client", HandshakeCompleted)
    pair.client.send_stream_data(0, b"hello", end_stream=True)
    pair.move()
    assert (await pair.until("server", StreamDataReceived)).data == b"hello"
    names = [type(event) for event in pair.events["server"]]
    assert names.index(HandshakeCompleted) < names.index(StreamDataReceived)
    lines = daemon.lines_since(before, 2)
    (line,) = [line for line in lines if "192.0.2.1 port 4711" in line]
    assert "done: entry h3" in line
    (line,) = [line for line in lines if "192.0.2.2 port 443" in line]
    assert "done: entry authenticate.client" in line


async def test_a_message_after_the_clients_finished_is_unexpected(daemon: Daemon) -> None:
    pair = Pair(daemon)
    pair.client.connect(SERVER, pair.now)
    await pair.until("server", HandshakeCompleted)
    key_update = bytes.fromhex("1800000100")  # RFC 9001 section 6: not in QUIC
    pair.client._crypto_streams[list(pair.client._spaces)[-1]].sender.write(key_update)
    pair.move()
    end = await pair.until("client", ConnectionTerminated)
    assert end.error_code == QuicErrorCode.CRYPTO_ERROR + AlertDescription.UNEXPECTED_MESSAGE


async def test_who_closes_during_the_handshake_hears_no_more_of_it(daemon: Daemon) -> None:
    pair = Pair(daemon)
    pair.client.connect(SERVER, pair.now)
    pair.client.close(reason_phrase="changed my mind")
    assert pair.client.datagrams_to_send(pair.now) == []
    end = await pair.until("client", ConnectionTerminated)
    assert end.reason_phrase == "changed my mind"
    async with asyncio.timeout(TIMEOUT):
        while pair.client.handshake is None:
            await asyncio.sleep(0.01)
    assert pair.client.failure == "the QUIC stack closed the handshake"
    assert pair.events["server"] == []
