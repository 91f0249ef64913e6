"""A connection over records after its handshake: data, KeyUpdate, tickets and the end of it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quic_tlshd.tls.alert import AlertDescription as A
from quic_tlshd.tls.alert import PeerAlertError, PeerError
from quic_tlshd.tls.connection import Connection
from quic_tlshd.tls.events import InstallSecret
from quic_tlshd.tls.iana import CipherSuite, HandshakeType
from quic_tlshd.tls.messages import KeyUpdate, NewSessionTicket, encode_message
from quic_tlshd.tls.parameters import Direction, Level
from quic_tlshd.tls.record import HEADER, ContentType, RecordLayer

SUITE = CipherSuite.TLS_AES_128_GCM_SHA256
TICKET = NewSessionTicket(3600, 1, b"\0", b"ticket", {}).encode()


class Side:
    """A connection and its record layer, and what came of what it received."""

    def __init__(self, ours: int, theirs: int, take_message: Callable[[bytes], None]) -> None:
        self.records = RecordLayer()
        for direction, number in ((Direction.SEND, ours), (Direction.RECEIVE, theirs)):
            self.records.install(InstallSecret(Level.APP, direction, SUITE, bytes((number,)) * 32))
        self.connection = Connection(self.records, take_message)

    def receive(self, stream: bytes) -> bytes:
        data = b""
        while stream:
            length = self.records.body_length(stream[:HEADER])
            data += self.connection.receive(stream[:HEADER], stream[HEADER : HEADER + length])
            stream = stream[HEADER + length :]
        return data

    def seal(self, content_type: int, content: bytes) -> bytes:
        """A record that the connection would not send."""
        assert self.records.send is not None
        return self.records.send.seal(content_type, content)

    @property
    def sequences(self) -> tuple[int, int]:
        """Of the keys to send and to receive with."""
        assert self.records.send is not None
        assert self.records.receive is not None
        return self.records.send.sequence, self.records.receive.sequence


class Pair:
    def __init__(self) -> None:
        self.messages: list[bytes] = []
        self.client, self.server = Side(1, 2, self.messages.append), Side(2, 1, self.messages.append)

    def talk(self) -> None:
        assert self.server.receive(self.client.connection.send(b"request")) == b"request"
        assert self.client.receive(self.server.connection.send(b"response")) == b"response"

    def refused(self, stream: bytes, alert: A, reason: str, *, by: Side | None = None) -> None:
        with pytest.raises(PeerError, match=reason) as refusal:
            (by or self.client).receive(stream)
        assert refusal.value.alert is alert


@pytest.fixture
def pair() -> Pair:
    return Pair()


def test_data_of_any_length(pair: Pair) -> None:
    for length in (0, 1, 1 << 14, (1 << 14) + 1, 100_000):
        assert pair.client.receive(pair.server.connection.send(bytes(length))) == bytes(length)


def test_tickets_between_data(pair: Pair) -> None:
    stream = pair.server.connection.send(b"one") + pair.server.records.handshake(TICKET * 2)
    assert pair.client.receive(stream + pair.server.connection.send(b"two")) == b"onetwo"
    assert pair.messages == [TICKET] * 2


def test_a_ticket_in_fragments(pair: Pair) -> None:
    pair.server.records.send_limit = 4
    assert pair.client.receive(pair.server.records.handshake(TICKET)) == b""
    assert pair.messages == [TICKET]


def test_data_between_the_fragments_of_a_ticket(pair: Pair) -> None:
    stream = pair.server.seal(ContentType.HANDSHAKE, TICKET[:5]) + pair.server.connection.send(b"data")
    pair.refused(stream, A.UNEXPECTED_MESSAGE, "application data came in the middle")


# KeyUpdate


def test_a_key_update_of_one_side(pair: Pair) -> None:
    assert pair.client.receive(pair.server.connection.update_keys()) == b""
    assert pair.client.sequences == (0, 0)
    pair.talk()
    assert pair.client.sequences == pair.server.sequences == (1, 1)


def test_a_key_update_that_asks_for_another(pair: Pair) -> None:
    for _ in range(3):  # one answer is enough for all that come while we are silent
        pair.client.receive(pair.server.connection.update_keys(request=True))
    answer = pair.client.connection.send(b"data")
    assert pair.server.receive(answer) == b"data"
    assert pair.client.sequences == (1, 0)
    pair.talk()
    assert pair.client.sequences == (2, 1)  # no second answer


def test_an_answer_at_once(pair: Pair) -> None:
    assert pair.client.connection.answer() == b""
    pair.client.receive(pair.server.connection.update_keys(request=True))
    assert pair.client.connection.send(b"") == b""
    assert pair.server.receive(pair.client.connection.answer()) == b""
    assert pair.client.connection.answer() == b""
    pair.talk()
    assert pair.client.sequences == (1, 1)


def test_keys_that_are_worn_out_are_changed(pair: Pair) -> None:
    assert pair.client.records.send is not None
    assert pair.server.records.receive is not None
    pair.client.records.send.sequence = pair.server.records.receive.sequence = 1 << 25
    pair.talk()
    assert pair.client.sequences == (1, 1)


@pytest.mark.parametrize(
    ("message", "alert"),
    [
        (encode_message(HandshakeType.KEY_UPDATE, b"\2"), A.ILLEGAL_PARAMETER),
        (encode_message(HandshakeType.KEY_UPDATE, b"\xff"), A.ILLEGAL_PARAMETER),
        (encode_message(HandshakeType.KEY_UPDATE, b""), A.DECODE_ERROR),
        (encode_message(HandshakeType.KEY_UPDATE, b"\0\0"), A.DECODE_ERROR),
    ],
)
def test_malformed_key_updates(pair: Pair, message: bytes, alert: A) -> None:
    pair.refused(pair.server.records.handshake(message), alert, "KeyUpdate|request_update")


@pytest.mark.parametrize("more", [TICKET, TICKET[:1], KeyUpdate(update_requested=False).encode()])
def test_nothing_comes_behind_a_key_update_under_the_old_keys(pair: Pair, more: bytes) -> None:
    message = KeyUpdate(update_requested=False).encode()
    pair.refused(pair.server.records.handshake(message + more), A.UNEXPECTED_MESSAGE, "behind a KeyUpdate|middle")


def test_the_old_keys_are_gone(pair: Pair) -> None:
    late = pair.server.seal(ContentType.APPLICATION_DATA, b"late")
    assert pair.server.records.send is not None
    pair.server.records.send.sequence = 0
    pair.client.receive(pair.server.connection.update_keys())
    pair.refused(late, A.BAD_RECORD_MAC, "does not decrypt")


# what has no place here


def test_change_cipher_spec(pair: Pair) -> None:
    pair.refused(bytes.fromhex("140303000101"), A.UNEXPECTED_MESSAGE, "wrong time")


# the end


def test_close_notify_ends_one_direction(pair: Pair) -> None:
    with pytest.raises(PeerAlertError) as closed:
        pair.client.receive(pair.server.connection.alert(A.CLOSE_NOTIFY))
    assert closed.value.description == A.CLOSE_NOTIFY
    assert pair.server.receive(pair.client.connection.send(b"still")) == b"still"


def test_user_canceled_is_followed_by_close_notify(pair: Pair) -> None:
    with pytest.raises(PeerAlertError, match="close_notify"):
        pair.client.receive(pair.server.connection.alert(A.USER_CANCELED))


@given(st.lists(st.tuples(st.sampled_from([21, 22, 23, 0]), st.binary(max_size=40)), max_size=8))
def test_arbitrary_contents(contents: list[tuple[int, bytes]]) -> None:
    pair = Pair()
    with suppress(PeerError, PeerAlertError):  # and no other
        pair.client.receive(b"".join([pair.server.seal(*content) for content in contents]))
