"""Private keys from PEM and DER: all that cryptography loads, and ML-DSA keys as OpenSSL writes them.

An ML-DSA key can be stored as its seed, expanded, or as both (RFC 9881 section 6). OpenSSL writes both unless told
otherwise; cryptography (50) loads seeds only. Of both, the seed is all that is needed.
"""

from __future__ import annotations

import re
from binascii import Error, a2b_base64

from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey, MLDSA65PrivateKey, MLDSA87PrivateKey
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import load_der_private_key, load_pem_private_key

# OneAsymmetricKey (RFC 5958): SEQUENCE { INTEGER 0, SEQUENCE { id-ml-dsa-* }, OCTET STRING { SEQUENCE {
# OCTET STRING seed, OCTET STRING expandedKey } } }. The lengths that vary all have two bytes.
_BOTH = re.compile(
    rb"\x30\x82..\x02\x01\x00\x30\x0b\x06\x09\x60\x86\x48\x01\x65\x03\x04\x03([\x11-\x13])"
    rb"\x04\x82..\x30\x82..\x04\x20(.{32})\x04\x82",
    re.DOTALL,
)
_TYPES: dict[bytes, type[MLDSA44PrivateKey | MLDSA65PrivateKey | MLDSA87PrivateKey]] = {
    b"\x11": MLDSA44PrivateKey,
    b"\x12": MLDSA65PrivateKey,
    b"\x13": MLDSA87PrivateKey,
}
_PEM = re.compile(rb"-----BEGIN PRIVATE KEY-----\s(.*?)-----END PRIVATE KEY-----", re.DOTALL)


def load_pem(data: bytes) -> PrivateKeyTypes:
    """TypeError if it is encrypted, ValueError or UnsupportedAlgorithm if there is no key that can be used."""
    armour = _PEM.search(data)
    if armour is not None:
        try:
            key = _from_both(a2b_base64(armour[1]))
        except Error:
            key = None
        if key is not None:
            return key
    return load_pem_private_key(data, None)


def load_der(data: bytes) -> PrivateKeyTypes:
    """See `load_pem`."""
    return _from_both(data) or load_der_private_key(data, None)


def _from_both(data: bytes) -> PrivateKeyTypes | None:
    match = _BOTH.match(data)
    return None if match is None else _TYPES[match[1]].from_seed_bytes(match[2])
