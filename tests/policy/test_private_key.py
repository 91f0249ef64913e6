"""ML-DSA keys in the three forms of RFC 9881, and that nothing changes for others."""

from __future__ import annotations

from base64 import encodebytes

import pytest
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from quic_tlshd.policy.private_key import load_der, load_pem
from tests.peers.pki import generate_key

OIDS = {"mldsa44": (17, 2560), "mldsa65": (18, 4032), "mldsa87": (19, 4896)}
"""The last arc of id-ml-dsa-*, and the length of the expanded key (FIPS 204, table 2)."""


def tlv(tag: int, content: bytes) -> bytes:
    length = len(content)
    return bytes((tag, length)) + content if length < 128 else bytes((tag, 0x82)) + length.to_bytes(2, "big") + content


def both(key_type: str, seed: bytes) -> bytes:
    """As OpenSSL writes it, but for the expanded key, which nobody looks at."""
    arc, length = OIDS[key_type]
    algorithm = tlv(0x30, tlv(6, bytes.fromhex("6086480165030403") + bytes((arc,))))
    return tlv(0x30, tlv(2, b"\0") + algorithm + tlv(4, tlv(0x30, tlv(4, seed) + tlv(4, bytes(length)))))


def pem(der: bytes) -> bytes:
    return b"-----BEGIN PRIVATE KEY-----\n" + encodebytes(der) + b"-----END PRIVATE KEY-----\n"


def public(key: PrivateKeyTypes) -> bytes:
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


@pytest.mark.parametrize("key_type", OIDS)
def test_seed_and_expanded_key(key_type: str) -> None:
    key = generate_key(key_type)
    der = both(key_type, key.private_bytes_raw())  # type: ignore[union-attr]
    assert public(load_der(der)) == public(load_pem(b"text before\n" + pem(der))) == public(key)


@pytest.mark.parametrize("key_type", ["p256", "ed25519", "rsa", "mldsa65"])
def test_what_cryptography_loads(key_type: str) -> None:
    key = generate_key(key_type)
    der = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    assert public(load_der(der)) == public(load_pem(pem(der))) == public(key)


@pytest.mark.parametrize("der", [b"", b"\x30", both("mldsa44", bytes(31)), both("mldsa44", b"")[:60]])
def test_what_nobody_loads(der: bytes) -> None:
    with pytest.raises(ValueError, match="deserialize"):
        load_der(der)
    for data in (pem(der), b"-----BEGIN PRIVATE KEY-----\n====\n-----END PRIVATE KEY-----\n"):
        with pytest.raises(ValueError, match=r"."):
            load_pem(data)
