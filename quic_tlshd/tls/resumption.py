"""NewSessionTicket, RFC 8446 section 4.6.1: how a server issues tickets, and what a client makes of them."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from typing import Any

from quic_tlshd.tls.alert import AlertDescription, PeerError
from quic_tlshd.tls.codec import decode_error
from quic_tlshd.tls.early_data import QUIC_MAX_EARLY_DATA, remembered
from quic_tlshd.tls.engine import receive
from quic_tlshd.tls.events import Event, NewSession, SealTickets, SendMessage
from quic_tlshd.tls.extensions import Extensions
from quic_tlshd.tls.iana import CipherSuite, HandshakeType
from quic_tlshd.tls.iana import ExtensionType as X
from quic_tlshd.tls.key_schedule import hash_length, hkdf_expand_label
from quic_tlshd.tls.messages import NewSessionTicket
from quic_tlshd.tls.parameters import ClientParameters, Level, ServerChoice, ServerParameters
from quic_tlshd.tls.ticket import MAX_LIFETIME, MAX_SESSION_DATA, MAX_STATE, Session

_MOST_TICKETS = 16  # of one connection that a client looks at


def begin_session(
    cipher_suite: CipherSuite,
    alpn: bytes | None,
    server_name: str | None,
    peer_chain: tuple[bytes, ...],
    now: float,
    resumed: Session | None,
    transport_parameters: bytes | None,
    own_certificate: bytes = b"",
) -> Session:
    """What all tickets of a connection have in common. `now`: seconds since the epoch. `resumed`: the session that it
    goes on with, which has been authenticated earlier. `transport_parameters`: the server's, None if not over QUIC.
    `own_certificate`: the `certificate_id` of what a client showed now."""
    now_ms = round(now * 1000)
    return Session(
        cipher_suite,
        b"",
        now_ms,
        0,
        0,
        now_ms if resumed is None else resumed.authenticated,
        alpn,
        server_name,
        peer_chain,
        transport_parameters=b"" if transport_parameters is None else remembered(transport_parameters),
        own_certificate=own_certificate if resumed is None else resumed.own_certificate,
    )


# The server


def send_tickets(
    parameters: ServerParameters, choice: ServerChoice, session: Session, resumption_master_secret: bytes
) -> Generator[Event, Any, None]:
    """`choice.tickets` tickets in one flight, or as many as whoever has the ticket key seals. None for a session whose
    certificates are too large or were verified too long ago."""
    left = (session.authenticated - session.created) // 1000 + MAX_LIFETIME
    lifetime = min(choice.ticket_lifetime, left)
    max_early_data = choice.max_early_data
    if parameters.transport_parameters is not None and max_early_data:
        max_early_data = QUIC_MAX_EARLY_DATA
    nonces = [number.to_bytes(2, "big") for number in range(choice.tickets)]
    sessions = [
        replace(
            session,
            key=_key(session.cipher_suite, resumption_master_secret, nonce),
            lifetime=lifetime,
            age_add=int.from_bytes(parameters.random(4), "big"),
            max_early_data=max_early_data,
        )
        for nonce in nonces
    ]
    states = tuple([session.encode() for session in sessions])
    if lifetime <= 0 or len(states[0]) > MAX_STATE:
        return
    tickets: tuple[bytes, ...] = yield SealTickets(choice.entry, states)
    if not tickets:
        return
    extensions: Extensions = {X.EARLY_DATA: max_early_data.to_bytes(4, "big")} if max_early_data else {}
    extensions = parameters.arrange(HandshakeType.NEW_SESSION_TICKET, extensions)
    messages = [
        NewSessionTicket(lifetime, session.age_add, nonce, ticket, extensions).encode()
        for nonce, session, ticket in zip(nonces, sessions, tickets, strict=False)
    ]
    yield SendMessage(Level.APP, b"".join(messages))


def receive_nothing() -> Generator[Event, Any, None]:
    """A client has nothing to say after its Finished: we ask for no authentication then (section 4.6.2), and traffic
    keys are updated (4.6.3) by those who have them; never over QUIC (RFC 9001 section 6)."""
    yield from receive()


# The client


def receive_tickets(
    parameters: ClientParameters, session: Session | None, resumption_master_secret: bytes
) -> Generator[Event, Any, None]:
    """Make sessions of the tickets that come. `session`: what they have in common, None if they are not wanted."""
    wanted = _MOST_TICKETS
    while True:
        message = yield from receive(HandshakeType.NEW_SESSION_TICKET)
        ticket = NewSessionTicket.decode(message)
        max_early_data = _max_early_data(ticket, over_quic=parameters.transport_parameters is not None)
        if session is None or wanted == 0 or ticket.ticket_lifetime == 0:  # 0: to be discarded at once
            continue
        wanted -= 1
        data = replace(
            session,
            key=_key(session.cipher_suite, resumption_master_secret, ticket.ticket_nonce),
            created=round(parameters.now() * 1000),
            lifetime=min(ticket.ticket_lifetime, MAX_LIFETIME),  # "regardless of the ticket_lifetime"
            age_add=ticket.ticket_age_add,
            max_early_data=max_early_data,
            identity=ticket.ticket,
        ).encode()
        if len(data) <= MAX_SESSION_DATA:
            yield NewSession(data)


def _max_early_data(ticket: NewSessionTicket, *, over_quic: bool) -> int:
    body = ticket.extensions.get(X.EARLY_DATA)
    if body is None:
        return 0
    if len(body) != 4:
        raise decode_error("max_early_data_size is not four bytes long")
    size = int.from_bytes(body, "big")
    if over_quic and size != QUIC_MAX_EARLY_DATA:
        # RFC 9001 section 4.6.1 makes it a PROTOCOL_VIOLATION; this is the alert that TLS has for it.
        raise PeerError(AlertDescription.ILLEGAL_PARAMETER, f"a ticket for {size} bytes of early data over QUIC")
    return size


def _key(cipher_suite: CipherSuite, resumption_master_secret: bytes, nonce: bytes) -> bytes:
    """The PSK that a ticket stands for."""
    hash_name = cipher_suite.hash
    return hkdf_expand_label(hash_name, resumption_master_secret, b"resumption", nonce, hash_length(hash_name))
