"""Hostile bytes at every step of both handshakes: PeerError, or the handshake goes on or waits; nothing else, no hang.
And what is changed on the way never leads to a handshake that both sides hold to be complete."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from hypothesis import given, settings
from hypothesis import strategies as st

from quic_tlshd.tls.alert import AlertDescription, PeerError
from quic_tlshd.tls.iana import HandshakeType
from quic_tlshd.tls.messages import encode_message
from quic_tlshd.tls.parameters import ClientCertificate, Level
from tests.tls.playbook import Duel, Letter


def parse(chain: tuple[bytes, ...]) -> CertificatePublicKeyTypes:
    """What a verifier does with a certificate that is none."""
    try:
        return x509.load_der_x509_certificate(chain[0]).public_key()
    except (ValueError, TypeError, x509.InvalidVersion, UnsupportedAlgorithm):
        raise PeerError(AlertDescription.BAD_CERTIFICATE, "this is no certificate") from None


def duel() -> Duel:
    """One with every message that our two roles send."""
    return Duel.of(
        quic=True,
        retry=True,
        request=ClientCertificate.REQUIRE,
        client_key="p256",
        client={"verify_server": parse},
        choice={"verify_client": parse},
    )


LETTERS = duel().run().delivered
STEPS = {f"{at} {HandshakeType(letter.kind).name} to the {letter.to}": at for at, letter in enumerate(LETTERS)}


def at_step(at: int) -> Duel:
    standing = duel()
    for _ in range(at):
        standing.deliver()
    return standing


def survives(standing: Duel, message: bytes) -> None:
    """Deliver this instead, and all that follows; nobody may be fooled."""
    try:
        standing.change(lambda _message: message)
        while standing.wire and standing.party(standing.next.to).can_receive_at(standing.next.level):
            standing.deliver()
    except PeerError as error:
        assert error.reason  # noqa: PT017
    assert not standing.is_complete


def positions(letter: Letter) -> Iterator[int]:
    """Every byte, but of a certificate's DER only some: that is the verifier's to read."""
    is_certificate = letter.kind == HandshakeType.CERTIFICATE
    return (at for at in range(len(letter.message)) if not is_certificate or at < 16 or at % 23 == 0)


@pytest.mark.parametrize("step", STEPS)
def test_every_byte_that_is_changed(step: str) -> None:
    at = STEPS[step]
    for position in positions(LETTERS[at]):
        for mask in (0x01, 0x80, 0xFF):
            standing = at_step(at)
            message = bytearray(standing.next.message)
            if position < len(message):  # signatures vary in length
                message[position] ^= mask
                survives(standing, bytes(message))


@pytest.mark.parametrize("step", STEPS)
def test_every_message_that_is_cut(step: str) -> None:
    """The header says the shorter length, so that the message is whole."""
    at = STEPS[step]
    for position in positions(LETTERS[at]):
        standing = at_step(at)
        message = standing.next.message
        if 4 <= position < len(message):
            survives(standing, encode_message(HandshakeType(message[0]), message[4:position]))


@pytest.mark.parametrize("step", STEPS)
@settings(max_examples=40, deadline=None)
@given(pieces=st.lists(st.tuples(st.sampled_from(Level), st.binary(max_size=80)), max_size=6))
def test_anything_at_any_step(step: str, pieces: list[tuple[Level, bytes]]) -> None:
    standing = at_step(STEPS[step])
    party = standing.party(standing.next.to)
    try:
        for level, data in pieces:
            party.receive(level, data)
    except PeerError as error:
        assert error.reason  # noqa: PT017
    assert party.complete is None


@pytest.mark.parametrize("step", STEPS)
@settings(max_examples=40, deadline=None)
@given(kind=st.sampled_from(HandshakeType), body=st.binary(max_size=120))
def test_any_body_at_any_step(step: str, kind: HandshakeType, body: bytes) -> None:
    standing = at_step(STEPS[step])
    own = HandshakeType(standing.next.kind)
    for message in (encode_message(kind, body), encode_message(own, body)):
        standing = at_step(STEPS[step])
        survives(standing, message)
