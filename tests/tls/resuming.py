"""Two handshakes after one another: the first gives the client a session, the second resumes it."""

from __future__ import annotations

from typing import Any

from quic_tlshd.tls.parameters import ClientCertificate
from quic_tlshd.tls.ticket import Session, TicketKey
from tests.tls.playbook import Duel

KEY = TicketKey(b"ticket key" * 8)
NOW = 1_500_000_000.0
TRANSPORT_PARAMETERS = bytes.fromhex("0404800fffff") + bytes.fromhex("0802406430024001")
"""initial_max_data, initial_max_streams_bidi, and one that nobody knows."""


def duel(session: Session | None = None, *, now: float = NOW, **options: Any) -> Duel:
    """A client that wants tickets and a server that issues two, for whose `entry` they open; see `Duel.of`."""
    clock = {"now": lambda: now}
    client = {"tickets": True, "session": session, **clock, **options.pop("client", {})}
    server = {**clock, **options.pop("server", {})}
    choice = {"tickets": 2, **options.pop("choice", {})}
    if options.get("quic"):
        server = {"transport_parameters": TRANSPORT_PARAMETERS, **server}
    return Duel.of(client=client, server=server, choice=choice, **{"ticket_key": KEY, **options})


def first(**options: Any) -> Session:
    """The first session of a full handshake."""
    done = duel(**options).run()
    assert done.is_complete
    return done.client.sessions[0]


MUTUAL: dict[str, Any] = {"request": ClientCertificate.REQUIRE, "client_key": "p256"}
EARLY: dict[str, Any] = {"choice": {"max_early_data": 1000}, "client": {"early_data": True}}
