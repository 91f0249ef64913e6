"""Our side of a cell over QUIC's handshake messages, with whatever carries them to the peer."""

from __future__ import annotations

import asyncio
from typing import Protocol

from quic_tlshd.endpoint.interface import Settings, TransportEvent
from quic_tlshd.request import Role
from quic_tlshd.tls.alert import AlertDescription, PeerAlertError
from quic_tlshd.tls.events import InstallSecret, NewSession, SendMessage
from quic_tlshd.tls.parameters import Direction, Level
from quic_tlshd.tools import s_client, s_server
from quic_tlshd.tools.drive import fail, handshake
from quic_tlshd.tools.policy import Setup
from tests.interop import ours
from tests.interop.ours import Files, Visit, flat
from tests.interop.table import Scenario

TRANSPORT_PARAMETERS = "0f0004048000ffff"  # initial_source_connection_id, initial_max_data
ALPN = "h3"
Secrets = dict[tuple[Level, Direction], bytes]


class QuicWire(Protocol):
    """The way to a peer for one connection. secrets: those that the peer has come to, seen from its side."""

    secrets: Secrets

    async def send(self, level: Level, data: bytes) -> None: ...

    async def receive(self) -> tuple[Level, bytes]:
        """PeerAlertError if it ends the connection with an alert."""
        ...

    async def end(self) -> None:
        """The connection is over."""
        ...


class QuicEndpoint:
    """An `Endpoint` on a wire. retried: whether there was a HelloRetryRequest."""

    def __init__(self, wire: QuicWire) -> None:
        self.secrets: Secrets = {}
        self.hellos = 0
        self._wire = wire

    async def settings(self) -> Settings:
        return Settings(transport_parameters=bytes.fromhex(TRANSPORT_PARAMETERS))

    async def receive(self) -> tuple[Level, bytes]:
        return await self._wire.receive()

    async def apply(self, event: TransportEvent) -> None:
        if isinstance(event, SendMessage):
            self.hellos += event.level is Level.INITIAL
            await self._wire.send(event.level, event.data)
        elif isinstance(event, InstallSecret):
            self.secrets[event.level, event.direction] = event.secret

    async def finish(self) -> None:
        """Nothing to do."""

    async def fail(self, alert: AlertDescription, reason: str) -> None:
        raise PeerAlertError(alert)  # there is nobody to tell

    def close(self) -> None:
        """Nothing to do."""


def setup_for(role: Role, scenario: Scenario, files: Files) -> Setup:
    options = ours.server_options if role is Role.SERVER else ours.client_options
    parser = s_server if role is Role.SERVER else s_client
    arguments = [*flat(options(files, scenario)), "-alpn", ALPN]
    return Setup.load(parser.command_line_parser().parse_args(arguments), role)


async def visit(setup: Setup, wire: QuicWire, *, waits_for_session: bool = False) -> Visit:
    """One handshake, and the tickets behind it; both sides must have come to the same secrets."""
    endpoint = QuicEndpoint(wire)
    async with asyncio.timeout(ours.TIMEOUT):
        try:
            engine, complete = await handshake(setup, endpoint)
            while waits_for_session:
                for event in engine.receive(*await wire.receive()):
                    if isinstance(event, NewSession):
                        setup.options.sess_in = event.data
                        waits_for_session = False
        except Exception as error:
            await fail(endpoint, error)
            raise
        await wire.end()
    for (level, direction), secret in endpoint.secrets.items():
        other = Direction.SEND if direction is Direction.RECEIVE else Direction.RECEIVE
        assert wire.secrets.get((level, other)) == secret, f"{level.name} secrets differ"
    return Visit(complete, endpoint.hellos > 1)
