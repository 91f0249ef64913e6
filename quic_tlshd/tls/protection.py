"""Record payload protection, RFC 8446 sections 5.2 to 5.5 and 7.3: one direction under one traffic secret."""

from __future__ import annotations

from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESCCM, AESGCM, ChaCha20Poly1305

from quic_tlshd.tls.alert import AlertDescription, PeerError
from quic_tlshd.tls.extensions import MAX_RECORD_SIZE
from quic_tlshd.tls.iana import TLS_1_2, CipherSuite
from quic_tlshd.tls.key_schedule import hash_length, hkdf_expand_label

MAX_INNER_PLAINTEXT = MAX_RECORD_SIZE  # of TLSInnerPlaintext, padding included
IV = 12  # iv_length of all suites
TAG = 16  # by which the AEADs of all suites lengthen what they protect
_APPLICATION_DATA = b"\x17" + TLS_1_2.to_bytes(2, "big")  # opaque_type and legacy_record_version

_KEY_LENGTHS = {
    CipherSuite.TLS_AES_128_GCM_SHA256: 16,
    CipherSuite.TLS_AES_256_GCM_SHA384: 32,
    CipherSuite.TLS_CHACHA20_POLY1305_SHA256: 32,
    CipherSuite.TLS_AES_128_CCM_SHA256: 16,
}
# Section 5.5 for GCM; RFC 9147 section 4.5.3 for CCM. ChaCha20-Poly1305 outlasts the sequence numbers, 2^64.
_MAX_RECORDS = {
    CipherSuite.TLS_AES_128_GCM_SHA256: 23_726_566,  # 2^24.5
    CipherSuite.TLS_AES_256_GCM_SHA384: 23_726_566,
    CipherSuite.TLS_CHACHA20_POLY1305_SHA256: 2**64 - 1,
    CipherSuite.TLS_AES_128_CCM_SHA256: 2**23,
}


@dataclass(frozen=True, slots=True)
class TrafficKeys:
    """Section 7.3: what one direction is protected with under one traffic secret."""

    cipher_suite: CipherSuite
    secret: bytes = field(repr=False)
    key: bytes = field(repr=False)
    iv: bytes = field(repr=False)

    @classmethod
    def derive(cls, cipher_suite: CipherSuite, secret: bytes) -> TrafficKeys:
        key = hkdf_expand_label(cipher_suite.hash, secret, b"key", b"", _KEY_LENGTHS[cipher_suite])
        return cls(cipher_suite, secret, key, hkdf_expand_label(cipher_suite.hash, secret, b"iv", b"", IV))

    def update(self) -> TrafficKeys:
        """Section 7.2: the next generation, which follows a KeyUpdate."""
        hash_name = self.cipher_suite.hash
        secret = hkdf_expand_label(hash_name, self.secret, b"traffic upd", b"", hash_length(hash_name))
        return TrafficKeys.derive(self.cipher_suite, secret)


class Protection:
    """Section 5.2: one direction's records under one traffic secret.

    sequence: the number of records that were sealed or opened so far, which is the next record's sequence number.
    """

    def __init__(self, keys: TrafficKeys) -> None:
        self.keys = keys
        self.sequence = 0
        self._aead = _aead(keys)
        self._iv = int.from_bytes(keys.iv, "big")

    @property
    def is_worn(self) -> bool:
        """Section 5.5: so many records were protected with these keys that the next needs others."""
        return self.sequence >= _MAX_RECORDS[self.keys.cipher_suite]

    def seal(self, content_type: int, content: bytes, padding: int = 0) -> bytes:
        """A whole record; `content` and `padding` together are at most 2^14 bytes."""
        header = _APPLICATION_DATA + (len(content) + 1 + padding + TAG).to_bytes(2, "big")
        inner = content + bytes((content_type,)) + bytes(padding)
        record = header + self._aead.encrypt(self._nonce(), inner, header)
        self.sequence += 1
        return record

    def open(self, header: bytes, body: bytes, limit: int = MAX_INNER_PLAINTEXT) -> tuple[int, bytes]:
        """The content type and the content of a record, which with its padding has at most `limit` bytes."""
        try:
            inner = self._aead.decrypt(self._nonce(), body, header)
        except InvalidTag:
            raise PeerError(AlertDescription.BAD_RECORD_MAC, "a record does not decrypt") from None
        self.sequence += 1
        if len(inner) > limit:
            raise overflow(len(inner), limit)
        inner = inner.rstrip(b"\0")
        if not inner:
            raise PeerError(AlertDescription.UNEXPECTED_MESSAGE, "a record has no content type")
        return inner[-1], inner[:-1]

    def _nonce(self) -> bytes:
        """Section 5.3."""
        return (self._iv ^ self.sequence).to_bytes(IV, "big")


def overflow(length: int, limit: int) -> PeerError:
    return PeerError(AlertDescription.RECORD_OVERFLOW, f"a record of {length} bytes where {limit} are the most")


def _aead(keys: TrafficKeys) -> AESGCM | AESCCM | ChaCha20Poly1305:
    if keys.cipher_suite is CipherSuite.TLS_CHACHA20_POLY1305_SHA256:
        return ChaCha20Poly1305(keys.key)
    if keys.cipher_suite is CipherSuite.TLS_AES_128_CCM_SHA256:
        return AESCCM(keys.key, TAG)
    return AESGCM(keys.key)
