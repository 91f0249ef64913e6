"""aioquic.tls, QUIC's handshake in Python, in this process. What it has no options for is set where it keeps it."""

from __future__ import annotations

import ssl
from collections import deque

from aioquic import tls
from aioquic.buffer import Buffer
from cryptography import x509

from quic_tlshd.request import Role
from quic_tlshd.tls.alert import PeerAlertError
from quic_tlshd.tls.iana import NamedGroup, SignatureScheme
from quic_tlshd.tls.parameters import Direction, Level
from tests.interop import quic, table
from tests.interop.ours import NAME, Files, Visit, issued
from tests.interop.quic import Secrets
from tests.interop.table import KEY_TYPES, Scenario
from tests.interop.tcp import twice

_LEVELS = {
    tls.Epoch.INITIAL: Level.INITIAL,
    tls.Epoch.ZERO_RTT: Level.EARLY,
    tls.Epoch.HANDSHAKE: Level.HANDSHAKE,
    tls.Epoch.ONE_RTT: Level.APP,
}
_ROOM = 1 << 16  # for what it sends at a level at once


class Aioquic:
    name = "aioquic"

    def missing(self) -> str | None:
        return None

    def cannot(self, role: Role, scenario: Scenario) -> str | None:
        if scenario == table.RETRY:
            return "aioquic has no HelloRetryRequest"
        if scenario == table.EXTERNAL_PSK:
            return "aioquic has no external PSKs"
        if scenario.group is not None and scenario.group.name not in tls.Group.__members__:
            return "aioquic has no ML-KEM"
        scheme = scenario.scheme
        if scheme is not None and (scheme.name not in tls.SignatureAlgorithm.__members__ or "PSS_PSS" in scheme.name):
            return "aioquic has no ML-DSA and RSASSA-PSS keys"
        if role is Role.CLIENT and scheme in (
            SignatureScheme.ECDSA_SECP521R1_SHA512,
            SignatureScheme.RSA_PSS_RSAE_SHA512,
        ):
            return "aioquic verifies P-521 and RSA-PSS with SHA-512, but does not sign so"
        return None

    def prepare(self, files: Files) -> None:
        """Nothing to do."""

    async def run(self, role: Role, scenario: Scenario, files: Files) -> list[Visit]:
        setup = quic.setup_for(role, scenario, files)
        tickets: dict[bytes, tls.SessionTicket] = {}
        visits = []
        for number in range(2 if twice(scenario) else 1):
            context = _client(scenario, files, tickets) if role is Role.SERVER else _server(scenario, files, tickets)
            wire = ContextWire(context, starts=role is Role.SERVER)
            waits = role is Role.CLIENT and number == 0 and twice(scenario)
            visits.append(await quic.visit(setup, wire, waits_for_session=waits))
        return visits


def _client(scenario: Scenario, files: Files, tickets: dict[bytes, tls.SessionTicket]) -> tls.Context:
    context = tls.Context(is_client=True, alpn_protocols=[quic.ALPN], cafile=str(files.root), server_name=NAME)
    context.session_ticket = tickets.get(b"the client's")
    context.new_session_ticket_cb = lambda ticket: tickets.update({b"the client's": ticket})
    if scenario == table.CLIENT_CERTIFICATE:
        _show(context, "client", "p256")
    return _common(context, scenario)


def _server(scenario: Scenario, files: Files, tickets: dict[bytes, tls.SessionTicket]) -> tls.Context:
    asks = scenario == table.CLIENT_CERTIFICATE
    context = tls.Context(
        is_client=False,
        alpn_protocols=[quic.ALPN],
        cafile=str(files.root),
        max_early_data=0xFFFFFFFF if scenario == table.EARLY_DATA else None,
        verify_mode=ssl.CERT_REQUIRED if asks else ssl.CERT_NONE,
    )
    context._request_client_certificate = asks
    context.get_session_ticket_cb = tickets.get
    context.new_session_ticket_cb = lambda ticket: tickets.update({ticket.ticket: ticket})
    _show(context, "server", "p256" if scenario.scheme is None else KEY_TYPES[scenario.scheme])
    return _common(context, scenario)


def _show(context: tls.Context, usage: str, key_type: str) -> None:
    identity = issued(key_type, usage)
    context.certificate = x509.load_der_x509_certificate(identity.chain[0])
    context.certificate_private_key = identity.private_key  # type: ignore[assignment]


def _common(context: tls.Context, scenario: Scenario) -> tls.Context:
    extension = (tls.ExtensionType.QUIC_TRANSPORT_PARAMETERS, bytes.fromhex(quic.TRANSPORT_PARAMETERS))
    context.handshake_extensions.append(extension)
    group = scenario.group or NamedGroup.X25519
    context._supported_groups = [tls.Group[group.name]]
    if scenario.scheme is not None:
        context._signature_algorithms.insert(0, tls.SignatureAlgorithm[scenario.scheme.name])
    return context


class ContextWire:
    """The way to a context, which answers at once. starts: whether it speaks first."""

    def __init__(self, context: tls.Context, *, starts: bool) -> None:
        self.secrets: Secrets = {}
        self._context = context
        self._waiting: deque[tuple[Level, bytes]] = deque()
        self._alert: int | None = None
        context.update_traffic_key_cb = self._on_secret
        if starts:
            self._handle(b"")

    async def send(self, level: Level, data: bytes) -> None:
        self._handle(data)

    async def receive(self) -> tuple[Level, bytes]:
        if self._waiting:
            return self._waiting.popleft()
        if self._alert is not None:
            raise PeerAlertError(self._alert)
        raise AssertionError("it has nothing more to say")

    async def end(self) -> None:
        """Nothing to do."""

    def _handle(self, data: bytes) -> None:
        buffers = {epoch: Buffer(capacity=_ROOM) for epoch in _LEVELS}
        try:
            self._context.handle_message(data, buffers)
        except tls.Alert as alert:
            self._alert = alert.description
        self._waiting.extend((_LEVELS[epoch], buffer.data) for epoch, buffer in buffers.items() if buffer.data)

    def _on_secret(self, direction: tls.Direction, epoch: tls.Epoch, _suite: tls.CipherSuite, secret: bytes) -> None:
        ours = Direction.SEND if direction is tls.Direction.ENCRYPT else Direction.RECEIVE
        self.secrets[_LEVELS[epoch], ours] = secret
