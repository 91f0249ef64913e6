"""Which message may come when, at which encryption level: RFC 8446 section 4 ("Protocol messages MUST be sent in the
order defined in Section 4.4.1 [...] A peer which receives a handshake message in an unexpected order MUST abort the
handshake with an "unexpected_message" alert"), section 5.1 on key changes, RFC 9001 section 4.1.3 on levels.

Every step in which a side waits is tried with every type of message at every level.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from quic_tlshd.tls.alert import AlertDescription, PeerError
from quic_tlshd.tls.events import SendMessage, Sign
from quic_tlshd.tls.extensions import encode_key_shares
from quic_tlshd.tls.iana import ExtensionType, HandshakeType, NamedGroup
from quic_tlshd.tls.messages import ClientHello, KeyUpdate, NewSessionTicket, ServerHello, encode_message
from quic_tlshd.tls.parameters import ClientCertificate, Level
from quic_tlshd.tls.reassembly import MAX_MESSAGE
from tests.tls.playbook import Duel, Role

C, S, H = Role.CLIENT, Role.SERVER, HandshakeType
REQUIRE = ClientCertificate.REQUIRE


def valid_messages() -> dict[str, bytes]:
    """A well-formed message of every type, from real handshakes where our side sends such a message."""
    duel = Duel.of(quic=True, retry=True, request=REQUIRE, client_key="p256").run()
    seen: dict[str, bytes] = {}
    for letter in duel.delivered:
        name = H(letter.kind).name.lower()
        if letter.kind == H.SERVER_HELLO and ServerHello.decode(letter.message).is_hello_retry_request:
            name = "hello_retry_request"
        seen.setdefault(name, letter.message)
    seen["new_session_ticket"] = NewSessionTicket(3600, 1, b"\0", b"ticket", {}).encode()
    seen["end_of_early_data"] = encode_message(H.END_OF_EARLY_DATA, b"")
    seen["key_update"] = KeyUpdate(update_requested=False).encode()
    seen["compressed_certificate"] = encode_message(H.COMPRESSED_CERTIFICATE, b"\0\1\0\0\1\0\0\1x")
    seen["message_hash"] = encode_message(H.MESSAGE_HASH, bytes(32))
    for number in (0, 3, 6, 12, 14, 16, 22, 67, 255):  # TLS 1.2's, others' and nobody's
        seen[f"type {number}"] = bytes((number, 0, 0, 0))
    return seen


MESSAGES = valid_messages()
TYPES = {kind.name.lower() for kind in H}


def test_every_type_is_tried() -> None:
    assert set(MESSAGES) >= TYPES


def full() -> Duel:
    return Duel.of(quic=True)


def mutual() -> Duel:
    return Duel.of(quic=True, request=REQUIRE, client_key="p256")


def retried() -> Duel:
    return Duel.of(quic=True, retry=True)


@dataclass(frozen=True)
class Step:
    """A point at which a side waits: how to get there, and the names of the messages that may come."""

    role: Role
    level: Level
    reach: Callable[[], Duel]
    due: frozenset[str]


def step(role: Role, level: Level, reach: Callable[[], Duel], *due: str) -> Step:
    return Step(role, level, reach, frozenset(due))


STEPS = {
    "server waits for ClientHello": step(S, Level.INITIAL, full, "client_hello"),
    "server waits for the second ClientHello": step(
        S, Level.INITIAL, lambda: retried().until(S, H.CLIENT_HELLO, 2), "client_hello"
    ),
    "server waits for Certificate": step(S, Level.HANDSHAKE, lambda: mutual().until(S, H.CERTIFICATE), "certificate"),
    "server waits for CertificateVerify": step(
        S, Level.HANDSHAKE, lambda: mutual().until(S, H.CERTIFICATE_VERIFY), "certificate_verify"
    ),
    "server waits for Finished after CertificateVerify": step(
        S, Level.HANDSHAKE, lambda: mutual().until(S, H.FINISHED), "finished"
    ),
    "server waits for Finished after an empty Certificate": step(
        S,
        Level.HANDSHAKE,
        lambda: Duel.of(request=ClientCertificate.REQUEST).until(S, H.FINISHED),
        "finished",
    ),
    "server waits for Finished": step(S, Level.HANDSHAKE, lambda: full().until(S, H.FINISHED), "finished"),
    "client waits for ServerHello": step(
        C, Level.INITIAL, lambda: full().until(C, H.SERVER_HELLO), "server_hello", "hello_retry_request"
    ),
    "client waits for ServerHello after a retry": step(
        C, Level.INITIAL, lambda: retried().until(C, H.SERVER_HELLO, 2), "server_hello"
    ),
    "client waits for EncryptedExtensions": step(
        C, Level.HANDSHAKE, lambda: full().until(C, H.ENCRYPTED_EXTENSIONS), "encrypted_extensions"
    ),
    "client waits for CertificateRequest or Certificate": step(
        C, Level.HANDSHAKE, lambda: full().until(C, H.CERTIFICATE), "certificate", "certificate_request"
    ),
    "client waits for Certificate after CertificateRequest": step(
        C, Level.HANDSHAKE, lambda: mutual().until(C, H.CERTIFICATE), "certificate"
    ),
    "client waits for CertificateVerify": step(
        C, Level.HANDSHAKE, lambda: full().until(C, H.CERTIFICATE_VERIFY), "certificate_verify"
    ),
    "client waits for Finished": step(C, Level.HANDSHAKE, lambda: full().until(C, H.FINISHED), "finished"),
}


@pytest.mark.parametrize("name", MESSAGES)
@pytest.mark.parametrize("at", STEPS)
def test_a_message_out_of_order(at: str, name: str) -> None:
    """Only what is due goes on; everything else is unexpected_message, unknown types included."""
    waiting = STEPS[at]
    duel = waiting.reach()
    assert (duel.next.to, duel.next.level) == (waiting.role, waiting.level)
    if name not in waiting.due:
        duel.refuses(MESSAGES[name], AlertDescription.UNEXPECTED_MESSAGE)
    elif H(duel.next.kind).name.lower() == name:
        assert duel.run().is_complete


@pytest.mark.parametrize("level", [level for level in Level if level is not Level.INITIAL])
@pytest.mark.parametrize("name", MESSAGES)
@pytest.mark.parametrize("at", STEPS)
def test_a_message_at_another_level(at: str, name: str, level: Level) -> None:
    """RFC 9001 section 4.1.3; at the level after the right one as well as at the one before."""
    waiting = STEPS[at]
    if level is waiting.level:
        level = Level.INITIAL
    message = MESSAGES[name]
    waiting.reach().refuses(message, AlertDescription.UNEXPECTED_MESSAGE, level=level)


@pytest.mark.parametrize("at", STEPS)
def test_the_right_message_at_another_level(at: str) -> None:
    for level in Level:
        duel = STEPS[at].reach()
        if level is not duel.next.level:
            duel.refuses(duel.next.message, AlertDescription.UNEXPECTED_MESSAGE, level=level)


@pytest.mark.parametrize("at", STEPS)
def test_the_right_message_twice(at: str) -> None:
    """The second copy is out of order, or of the old level after the change of keys."""
    duel = STEPS[at].reach()
    letter = duel.next
    duel.deliver()
    with pytest.raises(PeerError) as refusal:
        duel.party(letter.to).receive(letter.level, letter.message)
    assert refusal.value.alert is AlertDescription.UNEXPECTED_MESSAGE


@pytest.mark.parametrize("at", STEPS)
def test_nothing_happens_before_the_message_is_whole(at: str) -> None:
    duel = STEPS[at].reach()
    party, letter = duel.party(duel.next.to), duel.next
    before = len(party.events)
    for at_byte in range(len(letter.message) - 1):
        party.receive(letter.level, letter.message[at_byte : at_byte + 1])
        assert len(party.events) == before
    party.receive(letter.level, b"")
    assert len(party.events) == before
    duel.change(lambda message: message[-1:])
    assert duel.run().is_complete


@pytest.mark.parametrize("at", STEPS)
def test_a_message_that_is_too_long(at: str) -> None:
    """Refused from its header, before anything of it is stored. RFC 8446 section 4 allows 2^24-1, no peer needs it."""
    duel = STEPS[at].reach()
    kind = duel.next.kind
    longer = {H.CLIENT_HELLO: 132 * 1024, H.CERTIFICATE: 128 * 1024, H.COMPRESSED_CERTIFICATE: 128 * 1024}
    limit = longer.get(H(kind), MAX_MESSAGE)
    header = bytes((kind,)) + (limit + 1).to_bytes(3, "big")
    is_certificate = kind in (H.CERTIFICATE, H.COMPRESSED_CERTIFICATE)
    duel.refuses(header, AlertDescription.BAD_CERTIFICATE if is_certificate else AlertDescription.DECODE_ERROR)
    duel = STEPS[at].reach()
    duel.party(duel.next.to).receive(duel.next.level, bytes((kind,)) + limit.to_bytes(3, "big"))


def test_an_unknown_message_that_is_too_long() -> None:
    Duel.of().refuses(b"\x63\xff\xff\xff", AlertDescription.DECODE_ERROR)


LAST_BEFORE_NEW_KEYS = {
    "server, behind ClientHello": lambda: full(),
    "server, behind the second ClientHello": lambda: retried().until(S, H.CLIENT_HELLO, 2),
    "server, behind Finished": lambda: full().until(S, H.FINISHED),
    "client, behind ServerHello": lambda: full().until(C, H.SERVER_HELLO),
    "client, behind ServerHello after a retry": lambda: retried().until(C, H.SERVER_HELLO, 2),
    "client, behind Finished": lambda: full().until(C, H.FINISHED),
}


@pytest.mark.parametrize("leftover", [b"\x08", b"\x14\0\0\0", bytes(500)], ids=["a byte", "a message", "a lot"])
@pytest.mark.parametrize("place", LAST_BEFORE_NEW_KEYS)
def test_bytes_left_over_at_a_change_of_keys(place: str, leftover: bytes) -> None:
    """RFC 8446 section 5.1: "Handshake messages MUST NOT span key changes." """
    duel = LAST_BEFORE_NEW_KEYS[place]()
    duel.refuses(duel.next.message + leftover, AlertDescription.UNEXPECTED_MESSAGE)


def test_the_next_flight_at_the_old_level() -> None:
    """RFC 8446 section 5.1: the encrypted part of the server's flight must not come in clear text."""
    duel = full().until(C, H.SERVER_HELLO)
    rest = b"".join(letter.message for letter in duel.wire)
    duel.refuses(rest, AlertDescription.UNEXPECTED_MESSAGE)


def test_a_client_that_sends_both_hellos_at_once() -> None:
    """The second waits for the first to be answered, for no keys change in between; it is wrong all the same."""
    duel = retried()
    duel.refuses(duel.next.message * 2, AlertDescription.ILLEGAL_PARAMETER)


def test_events_before_an_error_come_out() -> None:
    """An alert is to be sent with the keys that came before the error."""
    duel = full().until(C, H.SERVER_HELLO)
    message = duel.next.message + b"\x08"
    duel.refuses(message, AlertDescription.UNEXPECTED_MESSAGE)
    duel = full().until(C, H.ENCRYPTED_EXTENSIONS)
    message = duel.next.message + MESSAGES["finished"]
    duel.refuses(message, AlertDescription.UNEXPECTED_MESSAGE)
    assert [type(event).__name__ for event in duel.client.events][-2:] == ["PeerTransportParameters", "Selected"]


def signing(role: Role) -> Duel:
    """A duel that waits for one side's signature; nothing else is under way."""
    duel = Duel.of(request=REQUIRE, client_key="p256", sign_at_once=False)
    return duel.until_signing(role)


@pytest.mark.parametrize("role", list(Role))
def test_data_while_a_signature_is_outstanding(role: Role) -> None:
    """It is kept until the signature is there. The server may get the client's next flight so early; for the client
    nothing may come at that level any more."""
    duel = signing(role)
    party = duel.party(role)
    before = len(party.events)
    party.receive(Level.HANDSHAKE, MESSAGES["finished"])
    assert len(party.events) == before
    with pytest.raises(PeerError) as refusal:
        duel.sign(role)
    assert refusal.value.alert is AlertDescription.UNEXPECTED_MESSAGE
    assert isinstance(party.told(Sign)[-1], Sign)
    assert [event for event in party.told(SendMessage) if event.level is Level.HANDSHAKE]


@pytest.mark.parametrize("role", list(Role))
@pytest.mark.parametrize("level", [Level.INITIAL, Level.EARLY, Level.APP])
def test_data_of_another_level_while_a_signature_is_outstanding(role: Role, level: Level) -> None:
    with pytest.raises(PeerError) as refusal:
        signing(role).party(role).receive(level, b"\x14")
    assert refusal.value.alert is AlertDescription.UNEXPECTED_MESSAGE


@pytest.mark.parametrize("role", list(Role))
def test_too_much_data_while_a_signature_is_outstanding(role: Role) -> None:
    party = signing(role).party(role)
    party.receive(Level.HANDSHAKE, bytes(MAX_MESSAGE))
    with pytest.raises(PeerError) as refusal:
        party.receive(Level.HANDSHAKE, b"\0")
    assert refusal.value.alert is AlertDescription.UNEXPECTED_MESSAGE


@pytest.mark.parametrize("role", list(Role))
def test_a_late_signature(role: Role) -> None:
    duel = signing(role)
    duel.party(role).receive(Level.HANDSHAKE, b"")
    duel.sign(role)
    if role is S:
        duel.until_signing(C).sign(C)
    assert duel.run().is_complete


@pytest.mark.parametrize("role", list(Role))
@pytest.mark.parametrize("level", [Level.INITIAL, Level.HANDSHAKE, Level.EARLY])
def test_data_of_an_old_level_after_the_handshake(role: Role, level: Level) -> None:
    duel = full().run()
    with pytest.raises(PeerError) as refusal:
        duel.party(role).receive(level, b"\x14")
    assert refusal.value.alert is AlertDescription.UNEXPECTED_MESSAGE


AFTER = [(role, name) for role in Role for name in MESSAGES if (role, name) != (C, "new_session_ticket")]


@pytest.mark.parametrize("quic", [False, True])
@pytest.mark.parametrize(("role", "name"), AFTER, ids=str)
def test_what_must_not_come_after_the_handshake(role: Role, name: str, quic: bool) -> None:
    """RFC 8446 section 4.6: a client gets tickets; what changes keys is for whoever has them, and is not QUIC's."""
    party = Duel.of(quic=quic).run().party(role)
    with pytest.raises(PeerError) as refusal:
        party.receive(Level.APP, MESSAGES[name])
    assert refusal.value.alert is AlertDescription.UNEXPECTED_MESSAGE


@pytest.mark.parametrize("level", [Level.INITIAL, Level.HANDSHAKE, Level.EARLY])
@pytest.mark.parametrize("role", list(Role))
def test_after_the_handshake_there_is_one_level(role: Role, level: Level) -> None:
    party = full().run().party(role)
    with pytest.raises(PeerError) as refusal:
        party.receive(level, MESSAGES["new_session_ticket"])
    assert refusal.value.alert is AlertDescription.UNEXPECTED_MESSAGE


def test_a_second_hello_retry_request() -> None:
    """RFC 8446 section 4.1.4: unexpected_message, though its type would be due."""
    duel = retried().until(C, H.SERVER_HELLO)
    request = duel.next.message
    duel.deliver()
    duel.until(C, H.SERVER_HELLO).refuses(request, AlertDescription.UNEXPECTED_MESSAGE)


def test_a_hello_retry_request_is_answered_and_the_server_goes_on() -> None:
    duel = retried()
    first = ClientHello.decode(duel.next.message)
    duel.until(S, H.CLIENT_HELLO, 2)
    second = ClientHello.decode(duel.next.message)
    changed = {kind for kind in second.extensions if second.extensions[kind] != first.extensions.get(kind)}
    assert changed == {ExtensionType.KEY_SHARE}
    assert list(second.extensions) == list(first.extensions)
    share = second.extensions[ExtensionType.KEY_SHARE]
    assert len(share) == len(encode_key_shares(((NamedGroup.X25519, bytes(32)),)))
    assert duel.run().is_complete
