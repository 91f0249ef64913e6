"""Session resumption, RFC 8446 sections 2.2, 4.2.11 and 4.6.1, in both roles."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from quic_tlshd.tls.alert import AlertDescription as A
from quic_tlshd.tls.alert import PeerError
from quic_tlshd.tls.events import Complete, NewSession, SendMessage, Sign
from quic_tlshd.tls.extensions import decode_offered_psks
from quic_tlshd.tls.iana import CipherSuite, HandshakeType, NamedGroup, PskKeyExchangeMode
from quic_tlshd.tls.iana import ExtensionType as X
from quic_tlshd.tls.messages import ClientHello, NewSessionTicket
from quic_tlshd.tls.parameters import ClientCertificate, Direction, Level, Psk
from quic_tlshd.tls.ticket import MAX_LIFETIME, MAX_SESSION_DATA, Session, TicketKey
from tests.tls.playbook import Duel, Role, distrust, identity, trust
from tests.tls.resuming import MUTUAL, NOW, duel, first

DHE, KE = PskKeyExchangeMode.PSK_DHE_KE, PskKeyExchangeMode.PSK_KE
SHA256, SHA384 = CipherSuite.TLS_AES_128_GCM_SHA256, CipherSuite.TLS_AES_256_GCM_SHA384


def assert_resumed(
    done: Duel, *, client_chain: tuple[bytes, ...] = (), group: NamedGroup | None = NamedGroup.X25519
) -> None:
    assert done.client.complete is not None
    assert done.server.complete is not None
    for party, chain in ((done.client, identity().chain), (done.server, client_chain)):
        complete = party.complete
        assert complete is not None
        assert complete.resumed
        assert complete.group == group
        assert complete.peer_chain == chain
        assert complete.signature_scheme is None
        assert complete.psk_identity is None
        assert not party.told(Sign)
    for level in (Level.HANDSHAKE, Level.APP):
        assert done.client.secrets[level, Direction.SEND] == done.server.secrets[level, Direction.RECEIVE]
        assert done.client.secrets[level, Direction.RECEIVE] == done.server.secrets[level, Direction.SEND]


def assert_full(done: Duel) -> None:
    for party in (done.client, done.server):
        assert party.complete is not None
        assert not party.complete.resumed
    assert done.client.complete is not None
    assert done.client.complete.peer_chain == identity().chain


@pytest.mark.parametrize("portion", [None, 1])
@pytest.mark.parametrize("quic", [False, True])
@pytest.mark.parametrize("retry", [False, True])
@pytest.mark.parametrize("suite", [SHA256, SHA384], ids=lambda suite: suite.hash)
def test_a_session_is_resumed(suite: CipherSuite, retry: bool, quic: bool, portion: int | None) -> None:
    choice = {"cipher_suites": (suite,)}
    session = first(choice=choice, quic=quic)
    assert session.cipher_suite == suite
    assert_resumed(duel(session, choice=choice, quic=quic, retry=retry).run(portion=portion))


def test_psk_ke_alone() -> None:
    client = {"psk_modes": (KE,)}
    assert_resumed(duel(first(client=client), client=client).run(), group=None)


def test_dhe_comes_first() -> None:
    client = {"psk_modes": (KE, DHE)}
    assert_resumed(duel(first(client=client), client=client).run())


def test_again_and_again() -> None:
    """Each handshake gives new tickets, for keys of its own, and the first authentication is remembered."""
    session = first()
    for now in (NOW + 100, NOW + 200, NOW + 300):
        done = duel(session, now=now).run()
        assert_resumed(done)
        renewed = done.client.sessions
        assert len({session.key, *[session.key for session in renewed]}) == 3
        assert len({session.identity, *[session.identity for session in renewed]}) == 3
        session = renewed[-1]
        assert session.authenticated == NOW * 1000
        assert session.created == now * 1000


def test_a_session_ends_a_week_after_the_certificates() -> None:
    session, now = first(choice={"ticket_lifetime": MAX_LIFETIME}), NOW
    assert session.lifetime == MAX_LIFETIME
    for days in (3, 3):
        now += days * 86400
        done = duel(session, now=now, choice={"ticket_lifetime": MAX_LIFETIME}).run()
        assert_resumed(done)
        session = done.client.sessions[0]
    assert session.lifetime == 86400
    assert_full(duel(session, now=now + 86400).run())


def test_no_ticket_where_no_second_is_left() -> None:
    session = replace(first(), authenticated=round((NOW - MAX_LIFETIME + 0.5) * 1000))
    state = replace(session, identity=b"", peer_chain=()).encode()
    done = duel(
        replace(session, identity=TicketKey(b"x").seal(state, "server entry")), ticket_key=TicketKey(b"x")
    ).run()
    assert_resumed(done)
    assert done.client.sessions == []


# What the server sends


def tickets_of(done: Duel) -> list[NewSessionTicket]:
    return [
        NewSessionTicket.decode(letter.message)
        for letter in done.delivered
        if letter.kind == HandshakeType.NEW_SESSION_TICKET
    ]


def test_tickets_come_at_once_after_the_clients_finished() -> None:
    done = duel(choice={"tickets": 3, "ticket_lifetime": 600}).run()
    tickets = tickets_of(done)
    assert [ticket.ticket_lifetime for ticket in tickets] == [600] * 3
    for values in zip(
        *[(ticket.ticket_nonce, ticket.ticket_age_add, ticket.ticket) for ticket in tickets], strict=True
    ):
        assert len(set(values)) == 3
    assert all(ticket.extensions == {} for ticket in tickets)
    events = done.server.events
    assert isinstance(events[-2], SendMessage)
    assert isinstance(events[-1], Complete)
    assert [session.identity for session in done.client.sessions] == [ticket.ticket for ticket in tickets]


@pytest.mark.parametrize(
    "options",
    [
        {"choice": {"tickets": 0}},
        {"client": {"tickets": False}},
        {"ticket_key": None},
        {"client": {"groups": (NamedGroup.X25519,), "psk_modes": (9,)}},
    ],
    ids=["the entry has none", "the client has no psk_key_exchange_modes", "no key", "no mode in common"],
)
def test_no_tickets(options: dict[str, Any]) -> None:
    assert tickets_of(duel(**options).run()) == []


def test_no_tickets_for_an_external_psk() -> None:
    """It is offered again, for as long as both have it."""
    psk = Psk(b"external", b"k" * 32)
    done = duel(client={"psks": (psk,)}, server={"find_psk": True}, server_psks=(psk,)).run()
    assert done.client.complete is not None
    assert done.client.complete.psk_identity == b"external"
    assert tickets_of(done) == []


def test_no_ticket_for_a_client_with_large_certificates() -> None:
    assert len(tickets_of(duel(**MUTUAL).run())) == 2
    certificate = identity("p256", "client").certificate
    large = replace(certificate, chain=certificate.chain * 4)
    done = duel(**MUTUAL, client={"certificates": (large,)}).run()
    assert done.is_complete
    assert tickets_of(done) == []


# What the server accepts


def test_the_clients_identity_goes_along() -> None:
    chain = identity("p256", "client").chain
    session = first(**MUTUAL)
    assert_resumed(duel(session, **MUTUAL).run(), client_chain=chain)
    asked = {**MUTUAL, "request": ClientCertificate.REQUEST}
    assert_resumed(duel(session, **asked).run(), client_chain=chain)


@pytest.mark.parametrize("alert", [A.CERTIFICATE_EXPIRED, A.CERTIFICATE_REVOKED, A.UNKNOWN_CA])
def test_the_clients_certificates_must_still_verify(alert: A) -> None:
    """Else it is asked for them again, and what is wrong with them is what it hears."""
    started = duel(first(**MUTUAL), **MUTUAL, choice={"verify_client": distrust(alert)})
    started.fails(alert)


def test_a_client_with_new_certificates_after_the_old_ones_ended() -> None:
    old = identity("p256", "client").chain

    def verify(chain: tuple[bytes, ...], _responses: tuple[bytes, ...] = ()) -> Any:
        return distrust(A.CERTIFICATE_EXPIRED)(chain) if chain == old else trust(chain)

    both = (identity("p384", "client").certificate, identity("p256", "client").certificate)
    options: dict[str, Any] = {"request": ClientCertificate.REQUIRE, "client_key": "p384"}
    started = duel(first(**MUTUAL), **options, client={"certificates": both}, choice={"verify_client": verify})
    assert X.PRE_SHARED_KEY in hello_of(started).extensions
    assert_full(started.run())
    assert started.server.complete is not None
    assert started.server.complete.peer_chain == identity("p384", "client").chain


def test_a_session_without_certificates_is_none_where_they_are_required() -> None:
    done = duel(first(), **MUTUAL).run()
    assert_full(done)
    assert done.server.complete is not None
    assert done.server.complete.peer_chain


def test_a_session_with_certificates_is_none_where_they_are_not_wanted() -> None:
    assert_full(duel(first(**MUTUAL), request=ClientCertificate.NONE, client_key="p256").run())


def test_an_anonymous_client_stays_so_where_certificates_are_welcome() -> None:
    anonymous: dict[str, Any] = {"request": ClientCertificate.REQUEST}
    assert_resumed(duel(first(**anonymous), **anonymous).run())


@pytest.mark.parametrize(
    "options",
    [
        {"choice": {"entry": "another entry"}},
        {"choice": {"tickets": 0}},
        {"choice": {"cipher_suites": (SHA384,)}},
        {"ticket_key": TicketKey(b"another key")},
        {"ticket_key": None},
        {"server": {"now": lambda: NOW + 7200}},
        {"server": {"now": lambda: NOW - 60}},
    ],
    ids=["entry", "no tickets", "hash", "key", "no key", "expired", "not yet"],
)
def test_what_does_not_fit_gets_a_full_handshake(options: dict[str, Any]) -> None:
    assert_full(duel(first(), **options).run())


def test_a_session_is_for_one_server_name() -> None:
    session = first()
    other = {"server_name": "other.example"}
    assert X.PRE_SHARED_KEY not in hello_of(duel(session, client=other)).extensions
    assert_full(duel(replace(session, server_name="other.example"), client=other).run())


def test_another_protocol_of_the_same_entry() -> None:
    """ALPN is negotiated anew (RFC 7301 section 3.1)."""
    done = duel(first(), choice={"alpn": b"smb"}).run()
    assert_resumed(done)
    assert done.client.complete is not None
    assert done.client.complete.alpn == b"smb"


def test_a_changed_ticket_is_passed_over() -> None:
    session = first()
    for at in (0, 8, 20, -1):
        ticket = bytearray(session.identity)
        ticket[at] ^= 1
        assert_full(duel(replace(session, identity=bytes(ticket))).run())


def test_a_ticket_without_its_key_is_not_believed() -> None:
    """decrypt_error: the binder is checked before the client's certificates are looked at."""

    def verify(_chain: tuple[bytes, ...], _responses: tuple[bytes, ...] = ()) -> Any:
        raise AssertionError("looked at")

    stolen = replace(first(**MUTUAL), key=b"x" * 32)
    duel(stolen, **MUTUAL, choice={"verify_client": verify}).fails(A.DECRYPT_ERROR)


def test_what_fits_is_found_behind_what_does_not() -> None:
    """A ticket of ours for another server name, then an external PSK."""
    psk = Psk(b"external", b"k" * 32)
    other = first(client={"server_name": "other.example"})
    started = duel(
        replace(other, server_name="server.example"),
        client={"psks": (psk,)},
        server={"find_psk": True},
        server_psks=(psk,),
    )
    done = started.run()
    assert done.server.complete is not None
    assert done.server.complete.psk_identity == b"external"


def test_not_all_that_is_offered_is_tried() -> None:
    unfit = [Psk(b"unfit %d" % number, b"k" * 48, "sha384") for number in range(8)]
    fit = Psk(b"fit", b"k" * 32)
    suites = {"cipher_suites": (SHA256,)}
    for before, is_found in ((3, True), (4, False)):
        psks = (*unfit[:before], fit)
        done = Duel.of(client={"psks": psks}, server={"find_psk": True}, server_psks=psks, choice=suites).run()
        assert done.server.complete is not None
        assert (done.server.complete.psk_identity == b"fit") == is_found


# What the client offers


def hello_of(started: Duel) -> ClientHello:
    return ClientHello.decode(started.next.message)


def test_the_session_is_offered_before_psks() -> None:
    psk = Psk(b"external", b"k" * 32)
    session = first()
    hello = hello_of(duel(session, now=NOW + 1.5, client={"psks": (psk,)}))
    identities, _ = decode_offered_psks(hello.extensions[X.PRE_SHARED_KEY])
    age = (1500 + session.age_add) & 0xFFFFFFFF
    assert identities == ((session.identity, age), (b"external", 0))
    assert X.SIGNATURE_ALGORITHMS in hello.extensions  # or it could not go on without the session


@pytest.mark.parametrize(
    "options",
    [
        {"now": NOW + 7200},
        {"now": NOW - 1},
        {"client": {"server_name": None}},
        {"client": {"cipher_suites": (SHA384,)}},
        {"client": {"verify_server": distrust(A.CERTIFICATE_EXPIRED)}},
        {"client": {"verify_server": None, "psks": (Psk(b"external", b"k" * 32),)}},
    ],
    ids=["expired", "not yet", "no name", "hash", "the server's certificate expired", "PSKs only"],
)
def test_what_can_not_be_resumed_is_not_offered(options: dict[str, Any]) -> None:
    session = first()
    body = hello_of(duel(session, **options)).extensions.get(X.PRE_SHARED_KEY)
    assert body is None or session.identity not in [identity for identity, _ in decode_offered_psks(body)[0]]


def test_a_session_that_nobody_was_authenticated_in_is_not_offered() -> None:
    assert X.PRE_SHARED_KEY not in hello_of(duel(replace(first(), peer_chain=()))).extensions


def test_a_session_is_for_who_would_show_the_same_certificate() -> None:
    """Or a client without one, or with a newer one, would go on as who it was."""
    session = first(**MUTUAL)
    renewed = duel(session, **MUTUAL).run().client.sessions[0]
    for kept in (session, renewed):
        for key, is_offered in (("p256", True), ("p384", False), (None, False)):
            hello = hello_of(duel(kept, client_key=key))
            assert (X.PRE_SHARED_KEY in hello.extensions) == is_offered
    anonymous = first(request=ClientCertificate.REQUEST)
    assert X.PRE_SHARED_KEY in hello_of(duel(anonymous, client_key="p256")).extensions


@pytest.mark.parametrize(
    "options", [{"client": {"tickets": True}}, {"choice": {"tickets": 1}, "client": {"tickets": True}}]
)
def test_sessions_need_a_clock(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="clock"):
        Duel.of(**options).run()


def test_modes_are_there_for_tickets_only_too() -> None:
    assert hello_of(duel()).extensions[X.PSK_KEY_EXCHANGE_MODES][-1:] == b"\1"  # behind GREASE
    assert X.PSK_KEY_EXCHANGE_MODES not in hello_of(duel(client={"tickets": False})).extensions


def test_the_session_goes_through_a_retry_with_its_age_of_then() -> None:
    times = iter([NOW + 1, NOW + 1, NOW + 1, NOW + 2])
    started = duel(first(), retry=True, client={"now": lambda: next(times, NOW + 3)})
    started.until(Role.SERVER, HandshakeType.CLIENT_HELLO, 2)
    assert_resumed(started.run())


# What the client makes of tickets


def given(ticket: NewSessionTicket, **options: Any) -> list[Session]:
    """The sessions of a client that gets this ticket."""
    done = duel(**{"ticket_key": None, **options}).run()
    done.client.receive(Level.APP, ticket.encode())
    return done.client.sessions


TICKET = NewSessionTicket(600, 7, b"nonce", b"ticket", {})


def test_what_a_session_has() -> None:
    (session,) = given(TICKET)
    assert (session.lifetime, session.age_add, session.identity) == (600, 7, b"ticket")
    assert (session.alpn, session.server_name, session.created) == (b"h3", "server.example", NOW * 1000)
    assert session.peer_chain == identity().chain
    assert session.max_early_data == 0


@pytest.mark.parametrize(
    ("ticket", "alert"),
    [
        (replace(TICKET, extensions={X.EARLY_DATA: b"\0\0\1"}), A.DECODE_ERROR),
        (replace(TICKET, extensions={X.KEY_SHARE: b""}), A.ILLEGAL_PARAMETER),
        (replace(TICKET, ticket=b""), A.DECODE_ERROR),
    ],
    ids=["early_data", "key_share", "empty"],
)
@pytest.mark.parametrize("wanted", [True, False])
def test_bad_tickets(ticket: NewSessionTicket, alert: A, wanted: bool) -> None:
    with pytest.raises(PeerError) as refusal:
        given(ticket, client={"tickets": wanted})
    assert refusal.value.alert is alert


def test_a_session_lives_no_longer_than_it_may_whatever_the_ticket_says() -> None:
    """Section 4.6.1: "Clients MUST NOT cache tickets for longer than 7 days, regardless of the ticket_lifetime"."""
    (session,) = given(replace(TICKET, ticket_lifetime=0xFFFFFFFF))
    assert session.lifetime == MAX_LIFETIME


def test_unknown_extensions_of_a_ticket_are_ignored() -> None:
    assert len(given(replace(TICKET, extensions={0xFAFA: b"grease"}))) == 1


@pytest.mark.parametrize(
    "ticket",
    [
        replace(TICKET, ticket_lifetime=0),
        replace(TICKET, ticket=b"x" * MAX_SESSION_DATA),
        replace(TICKET, ticket=b"x" * 65535),
    ],
    ids=["lifetime 0", "too large", "as large as can be"],
)
def test_tickets_that_give_no_session(ticket: NewSessionTicket) -> None:
    assert given(ticket) == []


def test_a_client_that_wants_none_ignores_them() -> None:
    assert given(TICKET, client={"tickets": False}) == []


def test_the_largest_session() -> None:
    room = MAX_SESSION_DATA - len(given(TICKET)[0].encode())
    (session,) = given(replace(TICKET, ticket=b"x" * (len(TICKET.ticket) + room)))
    assert len(session.encode()) == MAX_SESSION_DATA
    assert given(replace(TICKET, ticket=b"x" * (len(TICKET.ticket) + room + 1))) == []


def test_tickets_in_any_portions_at_any_time_but_not_too_many() -> None:
    done = duel(ticket_key=None).run()
    flight = b"".join([replace(TICKET, ticket_nonce=bytes([number])).encode() for number in range(20)])
    for at in range(len(flight)):
        done.client.receive(Level.APP, flight[at : at + 1])
    assert len(done.client.told(NewSession)) == 16


def test_a_session_never_shows() -> None:
    done = duel().run()
    (event, _) = done.client.told(NewSession)
    assert repr(event) == "NewSession()"
