"""CPU per full handshake of the engine, over crypto messages: ``python -m tests.bench.bench_engine``.

X25519, an ECDSA P-256 certificate below one intermediate, AES-128-GCM; the client verifies the chain each time unless
it says "remembered". "resumed" has a session of an earlier handshake and no new ticket; a full handshake with tickets
has two. Beside it aioquic's TLS in the same run, in turns, so that the ratio holds on a noisy machine.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable

from cryptography import x509
from cryptography.x509 import verification

from quic_tlshd.tls.client import client_handshake
from quic_tlshd.tls.engine import Engine
from quic_tlshd.tls.events import Complete, Event, FindPsk, FoundPsk, NewSession, SealTickets, SendMessage, Sign
from quic_tlshd.tls.iana import NamedGroup, PskKeyExchangeMode
from quic_tlshd.tls.parameters import (
    CertificateChain,
    ClientCertificate,
    ClientParameters,
    ServerChoice,
    ServerParameters,
    VerifyChain,
)
from quic_tlshd.tls.server import server_handshake
from quic_tlshd.tls.signature import certificate_verify_content, schemes_of, sign
from quic_tlshd.tls.ticket import Session, TicketKey
from tests.peers import pki

ROUNDS, REPEATS = 200, 7
TICKET_KEY = TicketKey(b"bench" * 12)


class Party:
    """One side: feeds its engine, signs, seals and opens tickets, and adds up the CPU time that it took."""

    def __init__(self, engine: Engine, key: object, *, server: bool) -> None:
        self.engine, self.key, self.server = engine, key, server
        self.complete = False
        self.sessions: list[bytes] = []

    def take(self, events: object) -> list[SendMessage]:
        sent: list[SendMessage] = []
        pending: list[Event] = list(events)  # type: ignore[call-overload]
        while pending:
            event = pending.pop(0)
            if isinstance(event, SendMessage):
                sent.append(event)
            elif isinstance(event, Sign):
                content = certificate_verify_content(event.transcript_hash, server=self.server)
                pending += list(self.engine.answer(sign(self.key, event.scheme, content)))  # type: ignore[arg-type]
            elif isinstance(event, FindPsk):
                state = TICKET_KEY.open(event.identities[0], event.entry)
                session = Session.decode(state) if state else None
                pending += list(self.engine.answer(FoundPsk(0, session) if session else None))
            elif isinstance(event, SealTickets):
                tickets = tuple([TICKET_KEY.seal(state, event.entry) for state in event.states])
                pending += list(self.engine.answer(tickets))
            elif isinstance(event, NewSession):
                self.sessions.append(event.data)
            elif isinstance(event, Complete):
                self.complete = True
        return sent


def handshake(
    client: Callable[[], Party], server: Callable[[], Party], sessions: list[bytes] | None = None
) -> tuple[float, float]:
    """Seconds of CPU for the client and for the server. What the client may keep goes to `sessions`."""
    clock = time.process_time
    spent = [0.0, 0.0]
    began = clock()
    parties = [client()]
    flight = parties[0].take(parties[0].engine.start())
    spent[0] += clock() - began
    began = clock()
    parties.append(server())
    parties[1].take(parties[1].engine.start())
    spent[1] += clock() - began
    turn = 1
    while flight:
        began = clock()
        party, answers = parties[turn], []
        for message in flight:
            answers += party.take(party.engine.receive(message.level, message.data))
        spent[turn] += clock() - began
        flight, turn = answers, 1 - turn
    assert all(party.complete for party in parties)
    if sessions is not None:
        sessions += parties[0].sessions
    return spent[0], spent[1]


def main() -> None:
    root = pki.Authority("bench root")
    issuer = root.intermediate("bench issuer")
    server_id, client_id = issuer.issue(("a.example",)), issuer.issue(("c.example",), usage="client")

    def verifier(*, server: bool, remembered: bool) -> VerifyChain:
        store = verification.Store([x509.load_pem_x509_certificate(root.pem)])
        memory: dict[tuple[bytes, ...], object] = {}

        def verify(chain: tuple[bytes, ...], _responses: tuple[bytes, ...] = ()) -> object:
            if remembered and chain in memory:
                return memory[chain]
            certificates = [x509.load_der_x509_certificate(der) for der in chain]
            builder = verification.PolicyBuilder().store(store)
            if server:
                builder.build_server_verifier(x509.DNSName("a.example")).verify(certificates[0], certificates[1:])
            else:
                builder.build_client_verifier().verify(certificates[0], certificates[1:])
            memory[chain] = certificates[0].public_key()
            return memory[chain]

        return verify  # type: ignore[return-value]

    def chain_of(identity: object) -> CertificateChain:
        key = identity.private_key  # type: ignore[attr-defined]
        return CertificateChain("bench", identity.chain, schemes_of(key.public_key()))  # type: ignore[attr-defined]

    server_chain, client_chain = chain_of(server_id), chain_of(client_id)

    def pair(
        *,
        remembered: bool = False,
        mutual: bool = False,
        hybrid: bool = False,
        tickets: int = 0,
        session: Session | None = None,
        sessions: list[bytes] | None = None,
        mode: PskKeyExchangeMode = PskKeyExchangeMode.PSK_DHE_KE,
    ) -> tuple[float, float]:
        group = NamedGroup.X25519MLKEM768 if hybrid else NamedGroup.X25519
        client_parameters = ClientParameters(
            "bench",
            verifier_of[True, remembered],
            "a.example",
            (b"h3",),
            (client_chain,) if mutual else (),
            transport_parameters=b"x" * 60,
            key_shares=(group,),
            session=session,
            tickets=tickets > 1,
            psk_modes=(mode,),
            now=time.time,
        )
        choice = ServerChoice(
            "bench",
            b"h3",
            (server_chain,),
            ClientCertificate.REQUIRE if mutual else ClientCertificate.NONE,
            verifier_of[False, remembered],
            tickets=tickets if sessions is not None or session is None else 1,
        )
        server_parameters = ServerParameters(lambda _name, _alpn: choice, b"y" * 60, now=time.time)
        return handshake(
            lambda: Party(Engine(client_handshake(client_parameters)), client_id.private_key, server=False),
            lambda: Party(Engine(server_handshake(server_parameters)), server_id.private_key, server=True),
            sessions,
        )

    verifier_of = {(s, r): verifier(server=s, remembered=r) for s in (True, False) for r in (True, False)}
    cases = {
        "full": lambda: pair(),
        "full, chain remembered": lambda: pair(remembered=True),
        "full, X25519MLKEM768": lambda: pair(hybrid=True),
        "mutual": lambda: pair(mutual=True),
        "mutual, chains remembered": lambda: pair(mutual=True, remembered=True),
    }
    kept: list[bytes] = []
    pair(tickets=2, sessions=kept)
    session = Session.decode(kept[0])
    cases["full, chain remembered, 2 tickets"] = lambda: pair(remembered=True, tickets=2)
    cases["resumed, 1 ticket"] = lambda: pair(remembered=True, session=session)
    cases["resumed, psk_ke, 1 ticket"] = lambda: pair(remembered=True, session=session, mode=PskKeyExchangeMode.PSK_KE)
    try:
        from tests.bench.aioquic_tls import handshake as aioquic_handshake

        cases["aioquic, one share"] = lambda: aioquic_handshake(root, server_id)
    except ImportError as error:
        print(f"aioquic is left out: {error}")
    figures: dict[str, list[tuple[float, float]]] = {name: [] for name in cases}
    gc.disable()
    for _ in range(REPEATS):
        for name, case in cases.items():
            runs = [case() for _ in range(ROUNDS)]
            figures[name].append((sum(c for c, _ in runs) / ROUNDS, sum(s for _, s in runs) / ROUNDS))
            gc.collect()
    print(f"{'µs CPU per handshake':34} client server   pair")
    for name, rows in figures.items():
        client, server = (statistics.median(row[side] for row in rows) * 1e6 for side in (0, 1))
        print(f"{name:34} {client:6.0f} {server:6.0f} {client + server:6.0f}")


if __name__ == "__main__":
    main()
