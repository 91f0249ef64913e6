"""Early data, RFC 8446 sections 2.3, 4.2.10 and 8, over records and over QUIC (RFC 9001 section 4.6), in both roles."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quic_tlshd.tls.alert import AlertDescription as A
from quic_tlshd.tls.alert import PeerError
from quic_tlshd.tls.early_data import remembered
from quic_tlshd.tls.events import (
    EarlyDataAccepted,
    EarlyDataOffered,
    EarlyDataRefused,
    InstallSecret,
    NewSession,
    SendMessage,
    SkipEarlyData,
)
from quic_tlshd.tls.iana import CipherSuite, HandshakeType
from quic_tlshd.tls.iana import ExtensionType as X
from quic_tlshd.tls.messages import ClientHello, EncryptedExtensions, NewSessionTicket, ServerHello
from quic_tlshd.tls.parameters import Direction, Level, Psk
from quic_tlshd.tls.ticket import Session
from tests.tls.playbook import Duel, Party, Role
from tests.tls.resuming import EARLY, NOW, TRANSPORT_PARAMETERS, duel, first

SHA256, CHACHA = CipherSuite.TLS_AES_128_GCM_SHA256, CipherSuite.TLS_CHACHA20_POLY1305_SHA256
H = HandshakeType


def early(session: Session | None = None, *, claimed: set[bytes] | None = None, **options: Any) -> Duel:
    """Where both sides would have early data."""
    merged = {name: {**EARLY.get(name, {}), **options.get(name, {})} for name in ("client", "choice")}
    return duel(session, claimed=claimed, **{**options, **merged})


def early_session(**options: Any) -> Session:
    done = early(**options).run()
    assert done.is_complete
    return done.client.sessions[0]


def has_early_secret(party: Party, direction: Direction) -> bool:
    return (Level.EARLY, direction) in party.secrets


def assert_accepted(done: Duel, size: int = 1000) -> None:
    assert done.client.told(EarlyDataAccepted) == done.server.told(EarlyDataAccepted) == [EarlyDataAccepted(size)]
    assert done.client.told(EarlyDataRefused) == done.server.told(SkipEarlyData) == []
    assert done.client.secrets[Level.EARLY, Direction.SEND] == done.server.secrets[Level.EARLY, Direction.RECEIVE]
    assert_complete(done, early_data=True)


def assert_refused(done: Duel) -> None:
    assert done.client.told(EarlyDataAccepted) == done.server.told(EarlyDataAccepted) == []
    assert done.client.told(EarlyDataRefused) == [EarlyDataRefused()]
    assert [event.limit >= 2**14 for event in done.server.told(SkipEarlyData)] == [True]
    assert has_early_secret(done.client, Direction.SEND)
    assert not has_early_secret(done.server, Direction.RECEIVE)
    assert H.END_OF_EARLY_DATA not in [letter.kind for letter in done.delivered]
    assert_complete(done, early_data=False)


def assert_complete(done: Duel, *, early_data: bool) -> None:
    for party in (done.client, done.server):
        assert party.complete is not None
        assert party.complete.early_data == early_data
    for level in (Level.HANDSHAKE, Level.APP):
        assert done.client.secrets[level, Direction.SEND] == done.server.secrets[level, Direction.RECEIVE]


def order(party: Party) -> list[str]:
    """Messages and keys, in the order of events."""
    names = []
    for event in party.events:
        if isinstance(event, SendMessage):
            names.append(f"{H(event.data[0]).name.lower()} at {event.level.name}")
        elif isinstance(event, InstallSecret):
            names.append(f"{event.level.name} {event.direction.value}")
        elif isinstance(event, EarlyDataAccepted | EarlyDataRefused | EarlyDataOffered):
            names.append(type(event).__name__)
    return names


def test_over_records() -> None:
    """RFC 8446 section 4.5: EndOfEarlyData, under the early key, before the client's handshake key."""
    done = early(early_session()).run()
    assert_accepted(done)
    assert order(done.client) == [
        "client_hello at INITIAL",
        "EarlyDataOffered",
        "EARLY send",
        "HANDSHAKE receive",
        "EarlyDataAccepted",
        "end_of_early_data at EARLY",
        "HANDSHAKE send",
        "finished at HANDSHAKE",
        "APP receive",
        "APP send",
    ]
    assert order(done.server) == [
        "EarlyDataAccepted",
        "EARLY receive",
        "server_hello at INITIAL",
        "HANDSHAKE send",
        "encrypted_extensions at HANDSHAKE",
        "APP send",
        "HANDSHAKE receive",
        "APP receive",
        "new_session_ticket at APP",
    ]


def test_over_quic() -> None:
    """RFC 9001 section 8.3: no EndOfEarlyData, so that handshake keys are there at once."""
    done = early(early_session(quic=True), quic=True).run()
    assert_accepted(done, 0xFFFFFFFF)
    assert order(done.client)[:6] == [
        "client_hello at INITIAL",
        "EarlyDataOffered",
        "EARLY send",
        "HANDSHAKE receive",
        "HANDSHAKE send",
        "EarlyDataAccepted",
    ]
    assert order(done.server)[:5] == [
        "EarlyDataAccepted",
        "EARLY receive",
        "server_hello at INITIAL",
        "HANDSHAKE send",
        "HANDSHAKE receive",
    ]
    assert H.END_OF_EARLY_DATA not in [letter.kind for letter in done.delivered]
    known = remembered(TRANSPORT_PARAMETERS)
    assert done.client.told(EarlyDataOffered) == [EarlyDataOffered(0xFFFFFFFF, b"h3", known)]


def test_the_ticket_says_how_much() -> None:
    done = early().run()
    tickets = [
        NewSessionTicket.decode(letter.message) for letter in done.delivered if letter.kind == H.NEW_SESSION_TICKET
    ]
    assert [ticket.extensions for ticket in tickets] == [{X.EARLY_DATA: (1000).to_bytes(4, "big")}] * 2
    assert [session.max_early_data for session in done.client.sessions] == [1000, 1000]


def test_it_is_off_by_default() -> None:
    session = first()
    assert session.max_early_data == 0
    assert X.EARLY_DATA not in hello_of(early(session)).extensions
    assert X.EARLY_DATA not in hello_of(duel(early_session())).extensions


def hello_of(started: Duel) -> ClientHello:
    return ClientHello.decode(started.next.message)


@pytest.mark.parametrize(
    "options",
    [
        {"client": {"alpn": (b"smb",)}},
        {"client": {"alpn": ()}},
        {"client": {"cipher_suites": (CHACHA,)}},
        {"quic": True},
        {"now": NOW + 7200},
        {"client": {"server_name": "other.example"}},
    ],
    ids=["ALPN", "no ALPN", "cipher suite", "QUIC", "expired", "server name"],
)
def test_what_the_session_must_share_for_the_client(options: dict[str, Any]) -> None:
    assert X.EARLY_DATA not in hello_of(early(early_session(), **options)).extensions


@pytest.mark.parametrize(
    "options",
    [
        {"choice": {"max_early_data": 0}},
        {"choice": {"alpn": b"smb"}},
        {"choice": {"cipher_suites": (CHACHA,)}},
        {"choice": {"entry": "another entry"}},
        {"server": {"now": lambda: NOW + 10.1}},
        {"retry": True},
        {"ticket_key": None},
    ],
    ids=["not allowed", "ALPN", "cipher suite", "entry", "stale", "retry", "no key"],
)
def test_what_the_session_must_share_for_the_server(options: dict[str, Any]) -> None:
    """Else it is refused, and the handshake goes on."""
    session = early_session()
    assert_refused(early(session, **options).run())


@pytest.mark.parametrize("age", [-9.9, 9.9])
def test_the_age_may_be_a_bit_wrong(age: float) -> None:
    done = early(early_session(), now=NOW + 100, server={"now": lambda: NOW + 100 + age})
    assert_accepted(done.run())


def test_it_is_taken_once() -> None:
    """Section 8: the very same hello, sent again, gets a handshake without early data."""
    session, claimed = early_session(), set[bytes]()
    started = early(session, claimed=claimed)
    hello = started.next.message
    assert_accepted(started.run())
    replayed = early(session, claimed=claimed)
    replayed.change(lambda _hello: hello)
    replayed.deliver()
    assert replayed.server.told(EarlyDataAccepted) == []
    assert len(replayed.server.told(SkipEarlyData)) == 1


def test_another_hello_with_the_same_ticket_is_another() -> None:
    session, claimed = early_session(), set[bytes]()
    assert_accepted(early(session, claimed=claimed).run())
    assert_accepted(early(session, claimed=claimed).run())
    assert len(claimed) == 2


def test_it_is_not_claimed_when_it_is_refused_anyway() -> None:
    claimed = set[bytes]()
    assert_refused(early(early_session(), claimed=claimed, choice={"max_early_data": 0}).run())
    assert not claimed


def test_the_limits_must_be_those_of_then() -> None:
    """RFC 9000 section 7.4.1: no server may lower what the client may use before it hears of it."""
    session = early_session(quic=True)
    lower = bytes.fromhex("0404800ffffe") + TRANSPORT_PARAMETERS[6:]
    assert_refused(early(session, quic=True, server={"transport_parameters": lower}).run())
    others = TRANSPORT_PARAMETERS + bytes.fromhex("0008f00df00df00df00d") + b"\x0f\0"
    assert_accepted(early(session, quic=True, server={"transport_parameters": others}).run(), 0xFFFFFFFF)


def test_an_external_psk_has_no_early_data() -> None:
    psk = Psk(b"external", b"k" * 32)
    started = early(client={"psks": (psk,)}, server={"find_psk": True}, server_psks=(psk,))
    assert X.EARLY_DATA not in hello_of(started).extensions

    def offer(message: bytes) -> bytes:
        """A client that offers it all the same; its binder is right for what it was."""
        return with_extension(message, X.EARLY_DATA)

    started.change(offer).refuses(started.next.message, A.DECRYPT_ERROR)


def with_extension(message: bytes, kind: X, body: bytes = b"") -> bytes:
    hello = ClientHello.decode(message)
    return replace(hello, extensions={kind: body, **hello.extensions}).encode()


def test_early_data_of_a_client_without_a_psk_is_skipped() -> None:
    started = duel().change(lambda message: with_extension(message, X.EARLY_DATA))
    started.deliver()
    assert len(started.server.told(SkipEarlyData)) == 1


def test_the_offer_is_empty() -> None:
    started = duel()
    started.refuses(with_extension(started.next.message, X.EARLY_DATA, b"\0"), A.DECODE_ERROR)


# The server's part of it


def until_end_of_early_data(**options: Any) -> Duel:
    return early(early_session(), **options).until(Role.SERVER, H.END_OF_EARLY_DATA)


def test_the_end_is_empty() -> None:
    until_end_of_early_data().refuses(b"\5\0\0\1\0", A.DECODE_ERROR)


def test_the_end_comes_first() -> None:
    finished = b"\x14\0\0\x20" + bytes(32)
    until_end_of_early_data().refuses(finished, A.UNEXPECTED_MESSAGE)
    until_end_of_early_data().refuses(finished, A.UNEXPECTED_MESSAGE, level=Level.HANDSHAKE)


def test_nothing_comes_behind_the_end() -> None:
    started = until_end_of_early_data()
    started.refuses(started.next.message + b"\x14", A.UNEXPECTED_MESSAGE)


def test_no_end_over_quic() -> None:
    started = early(early_session(quic=True), quic=True).until(Role.SERVER, H.FINISHED)
    started.refuses(b"\5\0\0\0", A.UNEXPECTED_MESSAGE)


@pytest.mark.parametrize("level", [Level.EARLY, Level.HANDSHAKE])
def test_no_end_without_early_data(level: Level) -> None:
    early(first()).until(Role.SERVER, H.FINISHED).refuses(b"\5\0\0\0", A.UNEXPECTED_MESSAGE, level=level)


# The client's part of it


def until(kind: HandshakeType, session: Session | None = None, **options: Any) -> Duel:
    return early(session or early_session(), **options).until(Role.CLIENT, kind)


def encrypted_extensions(started: Duel, changes: dict[int, bytes]) -> bytes:
    decoded = EncryptedExtensions.decode(started.next.message)
    return EncryptedExtensions({**decoded.extensions, **changes}).encode()


def test_acceptance_is_empty() -> None:
    started = until(H.ENCRYPTED_EXTENSIONS)
    started.refuses(encrypted_extensions(started, {X.EARLY_DATA: b"\0"}), A.DECODE_ERROR)


def test_acceptance_without_an_offer() -> None:
    started = duel(first()).until(Role.CLIENT, H.ENCRYPTED_EXTENSIONS)
    started.refuses(encrypted_extensions(started, {X.EARLY_DATA: b""}), A.UNSUPPORTED_EXTENSION)


def test_acceptance_after_a_retry() -> None:
    started = until(H.ENCRYPTED_EXTENSIONS, retry=True)
    started.refuses(encrypted_extensions(started, {X.EARLY_DATA: b""}), A.UNSUPPORTED_EXTENSION)


def test_acceptance_under_another_protocol() -> None:
    started = until(H.ENCRYPTED_EXTENSIONS, choice={"alpn": b"smb"})
    started.refuses(encrypted_extensions(started, {X.EARLY_DATA: b""}), A.ILLEGAL_PARAMETER)


def test_acceptance_under_another_cipher_suite() -> None:
    started = until(H.ENCRYPTED_EXTENSIONS, choice={"cipher_suites": (CHACHA,)})
    started.refuses(encrypted_extensions(started, {X.EARLY_DATA: b""}), A.ILLEGAL_PARAMETER)


def test_acceptance_without_the_psk() -> None:
    started = until(H.ENCRYPTED_EXTENSIONS, ticket_key=None)
    started.refuses(encrypted_extensions(started, {X.EARLY_DATA: b""}), A.ILLEGAL_PARAMETER)


def test_acceptance_with_another_psk_than_the_first() -> None:
    """Section 4.2.10: the client verifies that the server's selected_identity is 0."""
    psk = Psk(b"external", b"k" * 32)
    options: dict[str, Any] = {"client": {"psks": (psk,)}, "server": {"find_psk": True}, "server_psks": (psk,)}
    started = until(H.ENCRYPTED_EXTENSIONS, ticket_key=None, **options)
    assert ServerHello.decode(started.delivered[-1].message).extensions[X.PRE_SHARED_KEY] == b"\0\1"
    started.refuses(encrypted_extensions(started, {X.EARLY_DATA: b""}), A.ILLEGAL_PARAMETER)


def test_a_retry_takes_the_offer_back() -> None:
    started = early(early_session(), retry=True)
    assert X.EARLY_DATA in hello_of(started).extensions
    started.until(Role.SERVER, H.CLIENT_HELLO, 2)
    assert X.EARLY_DATA not in hello_of(started).extensions
    assert_refused(started.run())


def test_to_take_early_data_back_is_no_reason_for_a_retry() -> None:
    """Section 4.1.4: a HelloRetryRequest that would not change the ClientHello is illegal_parameter."""
    started = early(early_session())
    request = ServerHello(
        bytes.fromhex("cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c"),
        b"",
        SHA256,
        {X.SUPPORTED_VERSIONS: b"\3\4"},
    )
    with pytest.raises(PeerError) as refusal:
        started.client.receive(Level.INITIAL, request.encode())
    assert refusal.value.alert is A.ILLEGAL_PARAMETER


def test_the_client_keeps_its_early_key_until_it_knows() -> None:
    """Over records; what is refused ends with EncryptedExtensions."""
    started = until(H.ENCRYPTED_EXTENSIONS, choice={"max_early_data": 0})
    assert (Level.HANDSHAKE, Direction.SEND) not in started.client.secrets
    started.deliver()
    assert (Level.HANDSHAKE, Direction.SEND) in started.client.secrets
    assert started.client.told(EarlyDataRefused) == [EarlyDataRefused()]


# QUIC's tickets


@pytest.mark.parametrize("size", [0, 1, 0xFFFFFFFE])
@pytest.mark.parametrize("wanted", [True, False])
def test_quic_has_one_size(size: int, wanted: bool) -> None:
    """RFC 9001 section 4.6.1."""
    done = duel(quic=True, ticket_key=None, client={"tickets": wanted}).run()
    ticket = NewSessionTicket(600, 0, b"", b"ticket", {X.EARLY_DATA: size.to_bytes(4, "big")})
    with pytest.raises(PeerError) as refusal:
        done.client.receive(Level.APP, ticket.encode())
    assert refusal.value.alert is A.ILLEGAL_PARAMETER


def test_records_have_any_size() -> None:
    done = duel(ticket_key=None).run()
    ticket = NewSessionTicket(600, 0, b"", b"ticket", {X.EARLY_DATA: bytes(4)})
    done.client.receive(Level.APP, ticket.encode())
    assert len(done.client.told(NewSession)) == 1
    assert done.client.sessions[0].max_early_data == 0


# QUIC's transport parameters


def test_what_is_remembered() -> None:
    """RFC 9000 section 7.4.1, in order of the ids; not what belongs to a connection."""
    block = bytes.fromhex("0e01020a0103040141000801020304050607082004800fffff0100")
    assert remembered(block) == bytes.fromhex("01000401410e01022004800fffff")
    assert remembered(b"") == b""
    assert remembered(bytes.fromhex("c0000000000000040141")) == bytes.fromhex("c0000000000000040141")


@given(st.binary(max_size=40))
def test_any_block_is_read(block: bytes) -> None:
    assert len(remembered(block)) <= len(block)


@pytest.mark.parametrize("block", ["04", "0402", "040241", "40", "c0000000", "0e01020488"])
def test_a_malformed_block_is_the_transports_to_complain_about(block: str) -> None:
    assert remembered(bytes.fromhex(block)) == b""
