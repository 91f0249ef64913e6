"""Key exchange: RFC 8446 section 4.2.8, and the ML-KEM hybrid of draft-ietf-tls-ecdhe-mlkem.

A client makes a KeyPair per share it sends and calls `exchange` with the server's; a server calls `respond` with the
client's share. A share that is no key of its group is illegal_parameter.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric import ec, mlkem
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from quic_tlshd.tls.alert import AlertDescription, PeerError
from quic_tlshd.tls.iana import NamedGroup

_CURVES: dict[NamedGroup, ec.EllipticCurve] = {
    NamedGroup.SECP256R1: ec.SECP256R1(),
    NamedGroup.SECP384R1: ec.SECP384R1(),
}
_MLKEM768_KEY = 1184  # bytes of an encapsulation key, FIPS 203 table 3
_MLKEM768_CIPHERTEXT = 1088
_UNCOMPRESSED = 4  # UncompressedPointRepresentation.legacy_form, RFC 8446 section 4.2.8.2


class KeyPair(Protocol):
    """An ephemeral key of ours. share: the key_exchange bytes of our KeyShareEntry."""

    group: NamedGroup
    share: bytes

    def exchange(self, peer_share: bytes) -> bytes:
        """The shared secret; PeerError(illegal_parameter) if the peer's share is none of the group."""
        ...


class X25519KeyPair:
    """RFC 7748 section 6.1."""

    group = NamedGroup.X25519

    def __init__(self, private_key: X25519PrivateKey) -> None:
        self._private_key = private_key
        self.share = private_key.public_key().public_bytes_raw()

    def exchange(self, peer_share: bytes) -> bytes:
        try:
            return self._private_key.exchange(X25519PublicKey.from_public_bytes(peer_share))
        except ValueError:  # a wrong length, or a point of small order: an all-zero shared secret
            raise _illegal(self.group) from None


class EcdheKeyPair:
    """The NIST curves, RFC 8446 sections 4.2.8.2 and 7.4.2."""

    def __init__(self, group: NamedGroup, private_key: ec.EllipticCurvePrivateKey) -> None:
        self.group = group
        self._private_key = private_key
        self.share = private_key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)

    def exchange(self, peer_share: bytes) -> bytes:
        try:
            if peer_share[0] != _UNCOMPRESSED:
                raise _illegal(self.group)
            point = ec.EllipticCurvePublicKey.from_encoded_point(_CURVES[self.group], peer_share)
            return self._private_key.exchange(ec.ECDH(), point)
        except ValueError:
            raise _illegal(self.group) from None


class X25519Mlkem768KeyPair:
    """The client's half of X25519MLKEM768: encapsulation key, then X25519 share."""

    group = NamedGroup.X25519MLKEM768

    def __init__(self, decapsulation_key: mlkem.MLKEM768PrivateKey, x25519: X25519KeyPair) -> None:
        self._decapsulation_key = decapsulation_key
        self._x25519 = x25519
        self.share = decapsulation_key.public_key().public_bytes_raw() + x25519.share

    def exchange(self, peer_share: bytes) -> bytes:
        try:
            secret = self._decapsulation_key.decapsulate(peer_share[:_MLKEM768_CIPHERTEXT])
        except ValueError:
            raise _illegal(self.group) from None
        return secret + self._x25519.exchange(peer_share[_MLKEM768_CIPHERTEXT:])


def generate(group: NamedGroup) -> KeyPair:
    """A fresh key pair of a group that we have (see `GROUPS`)."""
    if group == NamedGroup.X25519:
        return X25519KeyPair(X25519PrivateKey.generate())
    if group == NamedGroup.X25519MLKEM768:
        return X25519Mlkem768KeyPair(mlkem.MLKEM768PrivateKey.generate(), X25519KeyPair(X25519PrivateKey.generate()))
    return EcdheKeyPair(group, ec.generate_private_key(_CURVES[group]))


def respond(group: NamedGroup, peer_share: bytes, generate: Callable[[NamedGroup], KeyPair]) -> tuple[bytes, bytes]:
    """A server's answer to a client's share: our share and the shared secret."""
    if group != NamedGroup.X25519MLKEM768:
        pair = generate(group)
        return pair.share, pair.exchange(peer_share)
    try:
        encapsulation_key = mlkem.MLKEM768PublicKey.from_public_bytes(peer_share[:_MLKEM768_KEY])
        secret, ciphertext = encapsulation_key.encapsulate()
    except ValueError:
        raise _illegal(group) from None
    x25519 = generate(NamedGroup.X25519)
    return ciphertext + x25519.share, secret + x25519.exchange(peer_share[_MLKEM768_KEY:])


GROUPS = (NamedGroup.X25519MLKEM768, NamedGroup.X25519, *_CURVES)
"""The groups that can be generated here."""


def _illegal(group: NamedGroup) -> PeerError:
    return PeerError(AlertDescription.ILLEGAL_PARAMETER, f"the key share is no {group.name.lower()} key")
