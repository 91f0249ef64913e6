"""Key exchange: RFC 8446 section 4.2.8, and the ML-KEM hybrids of draft-ietf-tls-ecdhe-mlkem.

A client makes a KeyPair per share it sends and calls `exchange` with the server's; a server calls `respond` with the
client's share. A share that is no key of its group is illegal_parameter.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric import ec, mlkem
from cryptography.hazmat.primitives.asymmetric.x448 import X448PrivateKey, X448PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from quic_tlshd.tls.alert import AlertDescription, PeerError
from quic_tlshd.tls.iana import NamedGroup

_CURVES: dict[NamedGroup, ec.EllipticCurve] = {
    NamedGroup.SECP256R1: ec.SECP256R1(),
    NamedGroup.SECP384R1: ec.SECP384R1(),
    NamedGroup.SECP521R1: ec.SECP521R1(),
}
_UNCOMPRESSED = 4  # UncompressedPointRepresentation.legacy_form, RFC 8446 section 4.2.8.2


class KeyPair(Protocol):
    """An ephemeral key of ours. share: the key_exchange bytes of our KeyShareEntry."""

    group: NamedGroup
    share: bytes

    def exchange(self, peer_share: bytes) -> bytes:
        """The shared secret; PeerError(illegal_parameter) if the peer's share is none of the group."""
        ...


class XdhKeyPair:
    """X25519 and X448, RFC 7748 section 6 and RFC 8446 section 7.4.2."""

    def __init__(self, group: NamedGroup, private_key: X25519PrivateKey | X448PrivateKey) -> None:
        self.group = group
        self._private_key = private_key
        self.share = private_key.public_key().public_bytes_raw()

    def exchange(self, peer_share: bytes) -> bytes:
        try:
            if isinstance(self._private_key, X25519PrivateKey):
                return self._private_key.exchange(X25519PublicKey.from_public_bytes(peer_share))
            return self._private_key.exchange(X448PublicKey.from_public_bytes(peer_share))
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
            if peer_share[:1] != bytes((_UNCOMPRESSED,)):
                raise _illegal(self.group)
            point = ec.EllipticCurvePublicKey.from_encoded_point(_CURVES[self.group], peer_share)
            return self._private_key.exchange(ec.ECDH(), point)
        except ValueError:
            raise _illegal(self.group) from None


DecapsulationKey = mlkem.MLKEM768PrivateKey | mlkem.MLKEM1024PrivateKey


@dataclass(frozen=True, slots=True)
class _Hybrid:
    """What a hybrid is made of. at: where its shares are cut in two, the client's and the server's; what comes first in
    them comes first in the secret too."""

    ecdhe: NamedGroup
    private_key: type[DecapsulationKey]
    public_key: type[mlkem.MLKEM768PublicKey | mlkem.MLKEM1024PublicKey]
    mlkem_first: bool
    at: tuple[int, int]

    def join(self, mlkem: bytes, ecdhe: bytes) -> bytes:
        return mlkem + ecdhe if self.mlkem_first else ecdhe + mlkem

    def cut(self, share: bytes, *, from_client: bool) -> tuple[bytes, bytes]:
        """The ML-KEM part and the ECDHE part, each of any length: their own decoders know better."""
        at = self.at[0 if from_client else 1]
        return (share[:at], share[at:]) if self.mlkem_first else (share[at:], share[:at])


# draft-ietf-tls-ecdhe-mlkem section 4: X25519MLKEM768 alone has ML-KEM first. Lengths of ML-KEM: FIPS 203 table 3.
_HYBRIDS = {
    NamedGroup.X25519MLKEM768: _Hybrid(
        NamedGroup.X25519, mlkem.MLKEM768PrivateKey, mlkem.MLKEM768PublicKey, mlkem_first=True, at=(1184, 1088)
    ),
    NamedGroup.SECP256R1MLKEM768: _Hybrid(
        NamedGroup.SECP256R1, mlkem.MLKEM768PrivateKey, mlkem.MLKEM768PublicKey, mlkem_first=False, at=(65, 65)
    ),
    NamedGroup.SECP384R1MLKEM1024: _Hybrid(
        NamedGroup.SECP384R1, mlkem.MLKEM1024PrivateKey, mlkem.MLKEM1024PublicKey, mlkem_first=False, at=(97, 97)
    ),
}
HYBRIDS = frozenset(_HYBRIDS)
"""The groups with large shares, which many peers don't have."""


class HybridKeyPair:
    """The client's half of a hybrid: an encapsulation key and an ECDHE share."""

    def __init__(self, group: NamedGroup, decapsulation_key: DecapsulationKey, ecdhe: KeyPair) -> None:
        self.group = group
        self._decapsulation_key = decapsulation_key
        self._ecdhe = ecdhe
        self.share = _HYBRIDS[group].join(decapsulation_key.public_key().public_bytes_raw(), ecdhe.share)

    def exchange(self, peer_share: bytes) -> bytes:
        hybrid = _HYBRIDS[self.group]
        ciphertext, share = hybrid.cut(peer_share, from_client=False)
        try:
            secret = self._decapsulation_key.decapsulate(ciphertext)
        except ValueError:  # a wrong length; every ciphertext of the right one gives a secret (FIPS 203 section 6.3)
            raise _illegal(self.group) from None
        return hybrid.join(secret, self._ecdhe.exchange(share))


def generate(group: NamedGroup) -> KeyPair:
    """A fresh key pair."""
    if group == NamedGroup.X25519:
        return XdhKeyPair(group, X25519PrivateKey.generate())
    if group == NamedGroup.X448:
        return XdhKeyPair(group, X448PrivateKey.generate())
    if group in _HYBRIDS:
        hybrid = _HYBRIDS[group]
        return HybridKeyPair(group, hybrid.private_key.generate(), generate(hybrid.ecdhe))
    return EcdheKeyPair(group, ec.generate_private_key(_CURVES[group]))


def respond(group: NamedGroup, peer_share: bytes, generate: Callable[[NamedGroup], KeyPair]) -> tuple[bytes, bytes]:
    """A server's answer to a client's share: our share and the shared secret."""
    if group not in _HYBRIDS:
        pair = generate(group)
        return pair.share, pair.exchange(peer_share)
    hybrid = _HYBRIDS[group]
    encapsulation_key, share = hybrid.cut(peer_share, from_client=True)
    try:
        secret, ciphertext = hybrid.public_key.from_public_bytes(encapsulation_key).encapsulate()
    except ValueError:  # a wrong length, or a coefficient that is not reduced (FIPS 203 section 7.2)
        raise _illegal(group) from None
    pair = generate(hybrid.ecdhe)
    return hybrid.join(ciphertext, pair.share), hybrid.join(secret, pair.exchange(share))


def _illegal(group: NamedGroup) -> PeerError:
    return PeerError(AlertDescription.ILLEGAL_PARAMETER, f"the key share is no {group.name.lower()} key")
