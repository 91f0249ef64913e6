"""Hostile bytes at every step of both handshakes: PeerError, or the handshake goes on or waits; nothing else, no hang.
And what is changed on the way never leads to a handshake that both sides hold to be complete."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quic_tlshd.tls.alert import PeerError
from quic_tlshd.tls.iana import HandshakeType
from quic_tlshd.tls.messages import encode_message
from quic_tlshd.tls.parameters import ClientCertificate, Level
from tests.tls import resuming
from tests.tls.playbook import Duel, Letter, Role, parse


def full() -> Duel:
    """One with every message of a handshake with certificates."""
    return Duel.of(
        quic=True,
        retry=True,
        request=ClientCertificate.REQUIRE,
        client_key="p256",
        client={"verify_server": parse},
        choice={"verify_client": parse},
    )


SESSION = resuming.first(**resuming.EARLY)


def resumed() -> Duel:
    """One that goes on with a session, and with early data over records."""
    return resuming.duel(SESSION, **resuming.EARLY)


@dataclass(frozen=True)
class Step:
    """Where the handshake `start` has delivered `at` messages, and what comes next."""

    start: Callable[[], Duel]
    at: int
    letter: Letter

    def __str__(self) -> str:
        return f"{self.start.__name__} {self.at} {HandshakeType(self.letter.kind).name} to the {self.letter.to}"

    def duel(self) -> Duel:
        standing = self.start()
        for _ in range(self.at):
            standing.deliver()
        return standing


STEPS = [
    Step(start, at, letter)
    for start in (full, resumed)
    for at, letter in enumerate(start().run().delivered)
    if letter.kind != HandshakeType.NEW_SESSION_TICKET  # which comes when both are complete
]


def survives(standing: Duel, message: bytes) -> None:
    """Deliver this instead, and all that follows; nobody may be fooled."""
    own = standing.next.message
    try:
        standing.change(lambda _message: message)
        while standing.wire and standing.party(standing.next.to).can_receive_at(standing.next.level):
            standing.deliver()
    except PeerError as error:
        assert error.reason  # noqa: PT017
    assert not standing.is_complete or message == own


def positions(letter: Letter) -> Iterator[int]:
    """Every byte, but of a certificate's DER only some: that is the verifier's to read."""
    is_certificate = letter.kind == HandshakeType.CERTIFICATE
    return (at for at in range(len(letter.message)) if not is_certificate or at < 16 or at % 23 == 0)


@pytest.mark.parametrize("step", STEPS, ids=str)
def test_every_byte_that_is_changed(step: Step) -> None:
    for position in positions(step.letter):
        for mask in (0x01, 0x80, 0xFF):
            standing = step.duel()
            message = bytearray(standing.next.message)
            if position < len(message):  # signatures vary in length
                message[position] ^= mask
                survives(standing, bytes(message))


@pytest.mark.parametrize("step", STEPS, ids=str)
def test_every_message_that_is_cut(step: Step) -> None:
    """The header says the shorter length, so that the message is whole."""
    for position in positions(step.letter):
        standing = step.duel()
        message = standing.next.message
        if 4 <= position < len(message):
            survives(standing, encode_message(HandshakeType(message[0]), message[4:position]))


@pytest.mark.parametrize("step", STEPS, ids=str)
@settings(max_examples=40, deadline=None)
@given(pieces=st.lists(st.tuples(st.sampled_from(Level), st.binary(max_size=80)), max_size=6))
def test_anything_at_any_step(step: Step, pieces: list[tuple[Level, bytes]]) -> None:
    standing = step.duel()
    party = standing.party(standing.next.to)
    try:
        for level, data in pieces:
            party.receive(level, data)
    except PeerError as error:
        assert error.reason  # noqa: PT017
    assert party.complete is None


@pytest.mark.parametrize("step", STEPS, ids=str)
@settings(max_examples=40, deadline=None)
@given(kind=st.sampled_from(HandshakeType), body=st.binary(max_size=120))
def test_any_body_at_any_step(step: Step, kind: HandshakeType, body: bytes) -> None:
    standing = step.duel()
    own = HandshakeType(standing.next.kind)
    for message in (encode_message(kind, body), encode_message(own, body)):
        standing = step.duel()
        survives(standing, message)


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_tickets_that_are_changed(data: st.DataObject) -> None:
    """After the handshake, to the client: PeerError, a session, or none."""
    standing = resuming.duel(**resuming.EARLY).until(Role.CLIENT, HandshakeType.NEW_SESSION_TICKET)
    message = bytearray(standing.next.message)
    for _ in range(data.draw(st.integers(1, 3))):
        message[data.draw(st.integers(0, len(message) - 1))] = data.draw(st.integers(0, 255))
    try:
        standing.client.receive(Level.APP, bytes(message[: data.draw(st.integers(0, len(message)))]))
        standing.client.receive(Level.APP, bytes(message))
    except PeerError as error:
        assert error.reason  # noqa: PT017
