"""Scripted handshakes: two engines, the wire between them, and a test that stands on the wire.

    duel = Duel.of(quic=True).until(Role.CLIENT, HandshakeType.ENCRYPTED_EXTENSIONS)
    duel.refuses(b"\\x08\\0\\0\\2\\0\\0", AlertDescription.MISSING_EXTENSION)

The wire holds single messages, so that each can be looked at, changed, dropped or put elsewhere; `run` delivers the
rest. A `Party` applies events as a driver would and checks the order that the engine promises.
"""

from __future__ import annotations

import shutil
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cache
from typing import Any

import pytest
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes

from quic_tlshd.tls.alert import AlertDescription, PeerError
from quic_tlshd.tls.client import client_handshake
from quic_tlshd.tls.engine import Engine
from quic_tlshd.tls.events import (
    ClaimEarlyData,
    Complete,
    Event,
    FindPsk,
    FoundPsk,
    InstallSecret,
    NewSession,
    Question,
    SealTickets,
    SendMessage,
    Sign,
)
from quic_tlshd.tls.iana import CertificateCompressionAlgorithm, HandshakeType, NamedGroup
from quic_tlshd.tls.key_exchange import KeyPair, generate
from quic_tlshd.tls.keylog import with_key_log
from quic_tlshd.tls.parameters import (
    CertificateChain,
    ClientCertificate,
    ClientParameters,
    Direction,
    Level,
    Psk,
    ServerChoice,
    ServerParameters,
    VerifyChain,
)
from quic_tlshd.tls.server import server_handshake
from quic_tlshd.tls.signature import certificate_verify_content, pss_schemes, schemes_of, sign
from quic_tlshd.tls.ticket import Session, TicketKey
from tests.peers import pki

CLIENT_TRANSPORT_PARAMETERS = b"client transport parameters"
SERVER_TRANSPORT_PARAMETERS = b"server transport parameters"


class Role(StrEnum):
    CLIENT = "client"
    SERVER = "server"

    @property
    def peer(self) -> Role:
        return Role.SERVER if self is Role.CLIENT else Role.CLIENT


@dataclass(frozen=True)
class Identity:
    """A certificate chain and its key."""

    certificate: CertificateChain
    private_key: Any

    @property
    def chain(self) -> tuple[bytes, ...]:
        return self.certificate.chain


@cache
def _authority() -> pki.Authority:
    return pki.Authority("playbook root").intermediate("playbook issuer")


def identity(key_type: str = "p256", usage: str = "server") -> Identity:
    """One identity for each type of key and usage, the same in the whole run."""
    return _identity(key_type, usage)


@cache
def _identity(key_type: str, usage: str) -> Identity:
    if key_type == "rsa_pss":
        if shutil.which("openssl") is None:
            pytest.skip("openssl is not installed, which makes id-RSASSA-PSS keys")
        issued = pki.self_signed_pss(f"{usage}.example")
    else:
        issued = _authority().issue((f"{usage}.example",), key_type=key_type, usage=usage)
    schemes = schemes_of(issued.private_key.public_key(), pss_schemes(issued.certificate))
    return Identity(CertificateChain(f"{usage} {key_type}", issued.chain, schemes), issued.private_key)


@cache
def _certificate(der: bytes) -> x509.Certificate:
    return x509.load_der_x509_certificate(der)


def trust(chain: tuple[bytes, ...], _responses: tuple[bytes, ...] = ()) -> CertificatePublicKeyTypes:
    """A VerifyChain that believes everything: chains are not the engine's business."""
    return _certificate(chain[0]).public_key()


def parse(chain: tuple[bytes, ...], _responses: tuple[bytes, ...] = ()) -> CertificatePublicKeyTypes:
    """What a verifier does with a certificate that is none."""
    try:
        return x509.load_der_x509_certificate(chain[0]).public_key()
    except (ValueError, TypeError, x509.InvalidVersion, UnsupportedAlgorithm):
        raise PeerError(AlertDescription.BAD_CERTIFICATE, "this is no certificate") from None


def distrust(alert: AlertDescription) -> VerifyChain:
    """A VerifyChain that refuses with this alert."""

    def verify(_chain: tuple[bytes, ...], _responses: tuple[bytes, ...] = ()) -> CertificatePublicKeyTypes:
        raise PeerError(alert, "not trusted")

    return verify


class Party:
    """One side. What it has been told is in `events`, what it has to send in `outbox`.

    sign_at_once: answer `Sign` immediately; otherwise it waits in `wanted` for `sign`.
    psks: the keys that `FindPsk` finds here. ticket_key: seals and opens tickets, None if there are to be none.
    claimed: the early data that was seen, which `ClaimEarlyData` adds to.
    """

    def __init__(
        self,
        engine: Engine,
        role: Role,
        key: Any = None,
        *,
        sign_at_once: bool = True,
        psks: tuple[Psk, ...] = (),
        ticket_key: TicketKey | None = None,
        claimed: set[bytes] | None = None,
        compression: tuple[CertificateCompressionAlgorithm, ...] = (),
    ) -> None:
        self.engine, self.role, self.key, self.sign_at_once = engine, role, key, sign_at_once
        self.psks, self.ticket_key = psks, ticket_key
        self.claimed = set() if claimed is None else claimed
        self.events: list[Event] = []
        self.outbox: list[SendMessage] = []
        self.wanted: Sign | None = None
        self.secrets: dict[tuple[Level, Direction], bytes] = {}

    @property
    def complete(self) -> Complete | None:
        return next(iter(self.told(Complete)), None)

    @property
    def sessions(self) -> list[Session]:
        """What a client may keep."""
        decoded = [Session.decode(event.data) for event in self.told(NewSession)]
        return [session for session in decoded if session is not None]

    def start(self) -> None:
        self._apply(self.engine.start())

    def receive(self, level: Level, data: bytes) -> None:
        self._apply(self.engine.receive(level, data))

    def sign(self) -> None:
        """Answer the `Sign` that waits."""
        assert self.wanted is not None
        content = certificate_verify_content(self.wanted.transcript_hash, server=self.role is Role.SERVER)
        self.answer(sign(self.key, self.wanted.scheme, content))

    def answer(self, signature: bytes) -> None:
        """Answer the `Sign` that waits with this signature."""
        self.wanted = None
        self._apply(self.engine.answer(signature))

    def find_psk(self, wanted: FindPsk) -> FoundPsk | None:
        """The first of the identities that is known here."""
        for index, identity in enumerate(wanted.identities):
            for psk in self.psks:
                if psk.identity == identity:
                    return FoundPsk(index, psk)
            state = self.ticket_key and self.ticket_key.open(identity, wanted.entry)
            if state and (session := Session.decode(state)) is not None:
                return FoundPsk(index, session)
        return None

    def answer_question(self, wanted: Question) -> None:
        """All but `Sign`."""
        if isinstance(wanted, FindPsk):
            self._apply(self.engine.answer(self.find_psk(wanted)))
        elif isinstance(wanted, SealTickets):
            key = self.ticket_key
            self._apply(
                self.engine.answer(tuple([key.seal(state, wanted.entry) for state in wanted.states] if key else []))
            )
        else:
            assert isinstance(wanted, ClaimEarlyData)
            is_new = wanted.id not in self.claimed
            self.claimed.add(wanted.id)
            self._apply(self.engine.answer(is_new))

    def can_receive_at(self, level: Level) -> bool:
        return level is Level.INITIAL or (level, Direction.RECEIVE) in self.secrets

    def told(self, kind: type[Any]) -> list[Any]:
        """The events of one kind."""
        return [event for event in self.events if isinstance(event, kind)]

    def _apply(self, events: Iterable[Event]) -> None:
        for event in events:
            assert self.complete is None or isinstance(event, NewSession), f"{event} after Complete"
            assert self.wanted is None, f"{event} while a signature is outstanding"
            if isinstance(event, FindPsk | SealTickets | ClaimEarlyData):
                self.answer_question(event)
                return
            self.events.append(event)
            if isinstance(event, SendMessage):
                assert event.level is Level.INITIAL or (event.level, Direction.SEND) in self.secrets
                self.outbox.append(event)
            elif isinstance(event, InstallSecret):
                assert (event.level, event.direction) not in self.secrets, f"{event} twice"
                self.secrets[event.level, event.direction] = event.secret
            elif isinstance(event, Sign):
                self.wanted = event
        if self.wanted is not None and self.sign_at_once:
            self.sign()


def split(data: bytes) -> list[bytes]:
    """The single messages of a flight."""
    messages, at = [], 0
    while at < len(data):
        end = at + 4 + int.from_bytes(data[at + 1 : at + 4], "big")
        messages.append(data[at:end])
        at = end
    return messages


@dataclass(frozen=True)
class Letter:
    """A message on the wire."""

    to: Role
    level: Level
    message: bytes

    @property
    def kind(self) -> int:
        return self.message[0]


@dataclass
class Duel:
    """A client and a server, started, and what is under way between them."""

    client: Party
    server: Party
    wire: deque[Letter] = field(default_factory=deque)
    delivered: list[Letter] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.server.start()
        self.client.start()
        self._collect()

    @classmethod
    def of(
        cls,
        *,
        client: dict[str, Any] | None = None,
        server: dict[str, Any] | None = None,
        choice: dict[str, Any] | None = None,
        quic: bool = False,
        retry: bool = False,
        request: ClientCertificate = ClientCertificate.NONE,
        client_key: str | None = None,
        server_key: str = "p256",
        sign_at_once: bool = True,
        server_psks: tuple[Psk, ...] = (),
        ticket_key: TicketKey | None = None,
        claimed: set[bytes] | None = None,
        compression: tuple[CertificateCompressionAlgorithm, ...] = (),
        key_logs: Mapping[Role, list[str]] | None = None,
    ) -> Duel:
        """A duel in which all is well, but for what the dicts change in the parameters of either side.

        retry: the client sends no share that the server takes at first. request, client_key: the server's wish for a
        client certificate, and what the client has to show. compression: of Certificate messages, both ways.
        key_logs: what each side's secrets are written to.
        """
        shown, shows = identity(server_key), identity(client_key, "client") if client_key else None
        client_parameters = ClientParameters(
            "client entry",
            trust,
            "server.example",
            (b"h3", b"smb"),
            (shows.certificate,) if shows else (),
            CLIENT_TRANSPORT_PARAMETERS if quic else None,
            compression=compression,
        )
        if retry:
            client_parameters = replace(client_parameters, key_shares=(NamedGroup.SECP384R1,))
        server_choice = ServerChoice(
            "server entry", b"h3", (shown.certificate,), request, trust, compression=compression
        )
        if retry:
            server_choice = replace(server_choice, groups=(NamedGroup.X25519,))
        server_choice = replace(server_choice, **choice or {})
        server_parameters = ServerParameters(
            lambda _name, _alpn: server_choice, SERVER_TRANSPORT_PARAMETERS if quic else None
        )
        handshakes = {
            Role.CLIENT: client_handshake(replace(client_parameters, **client or {})),
            Role.SERVER: server_handshake(replace(server_parameters, **server or {})),
        }
        for role, lines in (key_logs or {}).items():
            handshakes[role] = with_key_log(handshakes[role], lines.append)
        return cls(
            Party(
                Engine(handshakes[Role.CLIENT]),
                Role.CLIENT,
                shows and shows.private_key,
                sign_at_once=sign_at_once,
            ),
            Party(
                Engine(handshakes[Role.SERVER]),
                Role.SERVER,
                shown.private_key,
                sign_at_once=sign_at_once,
                psks=server_psks,
                ticket_key=ticket_key,
                claimed=claimed,
            ),
        )

    def party(self, role: Role) -> Party:
        return self.client if role is Role.CLIENT else self.server

    @property
    def next(self) -> Letter:
        """The message that is about to be delivered."""
        return self.wire[0]

    @property
    def is_complete(self) -> bool:
        return self.client.complete is not None and self.server.complete is not None

    def deliver(self, *, portion: int | None = None) -> None:
        """Deliver the next message, whole or in pieces of `portion` bytes."""
        letter = self.wire.popleft()
        party = self.party(letter.to)
        assert party.can_receive_at(letter.level), f"{letter.to} has no key for {letter.level.name}"
        step = portion or len(letter.message)
        for at in range(0, len(letter.message), step):
            party.receive(letter.level, letter.message[at : at + step])
        self.delivered.append(letter)
        self._collect()

    def deliver_flight(self) -> None:
        """Deliver all that goes to the next receiver at the next level in one piece."""
        first = self.wire.popleft()
        data = first.message
        while self.wire and (self.wire[0].to, self.wire[0].level) == (first.to, first.level):
            data += self.wire.popleft().message
        self.party(first.to).receive(first.level, data)
        self._collect()

    def until(self, to: Role, kind: HandshakeType, nth: int = 1) -> Duel:
        """Deliver what comes before the `nth` message of that kind to that side, and stop there."""
        while not (self.next.to is to and self.next.kind == kind and (nth := nth - 1) == 0):
            self.deliver()
        return self

    def until_signing(self, role: Role) -> Duel:
        """Deliver until that side waits for its signature; the other's is made when it is wanted."""
        while self.party(role).wanted is None:
            if self.party(role.peer).wanted is not None:
                self.sign(role.peer)
            else:
                self.deliver()
        return self

    def sign(self, role: Role) -> None:
        """Answer the `Sign` of that side."""
        self.party(role).sign()
        self._collect()

    def answer(self, role: Role, signature: bytes) -> None:
        """Answer the `Sign` of that side with this signature."""
        self.party(role).answer(signature)
        self._collect()

    def run(self, *, portion: int | None = None) -> Duel:
        """Deliver everything."""
        while self.wire:
            self.deliver(portion=portion)
        return self

    def change(self, change: Callable[[bytes], bytes]) -> Duel:
        """Replace the next message."""
        self.wire[0] = replace(self.next, message=change(self.next.message))
        return self

    def refuses(self, message: bytes, alert: AlertDescription, *, level: Level | None = None) -> PeerError:
        """The next receiver gets `message` instead, at its level or another, and ends the handshake with `alert`."""
        with pytest.raises(PeerError) as refusal:
            self.party(self.next.to).receive(self.next.level if level is None else level, message)
        assert refusal.value.alert is alert, refusal.value
        return refusal.value

    def fails(self, alert: AlertDescription) -> PeerError:
        """What is under way ends with `alert`."""
        with pytest.raises(PeerError) as refusal:
            self.run()
        assert refusal.value.alert is alert, refusal.value
        return refusal.value

    def _collect(self) -> None:
        for party in (self.client, self.server):
            for event in party.outbox:
                self.wire.extend(Letter(party.role.peer, event.level, message) for message in split(event.data))
            party.outbox.clear()


def generator_of(*pairs: KeyPair) -> Callable[[NamedGroup], KeyPair]:
    """A `generate` that gives these pairs, one after the other, and fresh ones for other groups."""
    waiting = deque(pairs)

    def give(group: NamedGroup) -> KeyPair:
        return waiting.popleft() if waiting and waiting[0].group == group else generate(group)

    return give
