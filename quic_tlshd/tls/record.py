"""The record protocol, RFC 8446 section 5, for as long as a handshake over TCP lasts.

No I/O: what is to be sent comes out as bytes, and what was received goes in record by record, header first, so that
whoever reads the socket knows how many bytes to take and takes none too many. The peer's bytes can only raise PeerError
or PeerAlertError.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESCCM, AESGCM, ChaCha20Poly1305

from quic_tlshd.tls.alert import AlertDescription, PeerAlertError, PeerError
from quic_tlshd.tls.codec import decode_error
from quic_tlshd.tls.events import InstallSecret
from quic_tlshd.tls.extensions import MAX_RECORD_SIZE
from quic_tlshd.tls.iana import TLS_1_2, CipherSuite
from quic_tlshd.tls.key_schedule import hkdf_expand_label
from quic_tlshd.tls.parameters import Direction, Level

HEADER = 5  # ContentType type; ProtocolVersion legacy_record_version; uint16 length
MAX_PLAINTEXT = 2**14  # of TLSPlaintext.fragment
MAX_INNER_PLAINTEXT = MAX_RECORD_SIZE  # of TLSInnerPlaintext, padding included
MAX_CIPHERTEXT = MAX_PLAINTEXT + 256  # of TLSCiphertext.encrypted_record
IV = 12  # iv_length of all suites
_TAG = 16
_MAX_IGNORED = 32  # records without a use for anybody, in one handshake
_TLS_1_0 = 0x0301
_CHANGE_CIPHER_SPEC = b"\x01"
_WARNINGS = (AlertDescription.CLOSE_NOTIFY, AlertDescription.USER_CANCELED)


class ContentType(IntEnum):
    """ContentType, RFC 8446 section 5.1."""

    CHANGE_CIPHER_SPEC = 20
    ALERT = 21
    HANDSHAKE = 22
    APPLICATION_DATA = 23


_CONTENT_TYPES = frozenset(ContentType)
_KEY_LENGTHS = {
    CipherSuite.TLS_AES_128_GCM_SHA256: 16,
    CipherSuite.TLS_AES_256_GCM_SHA384: 32,
    CipherSuite.TLS_CHACHA20_POLY1305_SHA256: 32,
    CipherSuite.TLS_AES_128_CCM_SHA256: 16,
}


@dataclass(frozen=True, slots=True)
class TrafficKeys:
    """Section 7.3: what one direction is protected with under one traffic secret."""

    cipher_suite: CipherSuite
    key: bytes = field(repr=False)
    iv: bytes = field(repr=False)

    @classmethod
    def derive(cls, cipher_suite: CipherSuite, secret: bytes) -> TrafficKeys:
        key = hkdf_expand_label(cipher_suite.hash, secret, b"key", b"", _KEY_LENGTHS[cipher_suite])
        return cls(cipher_suite, key, hkdf_expand_label(cipher_suite.hash, secret, b"iv", b"", IV))


class Protection:
    """Section 5.2: one direction's records under one traffic secret.

    sequence: the number of records that were sealed or opened so far, which is the next record's sequence number.
    """

    def __init__(self, keys: TrafficKeys) -> None:
        self.keys = keys
        self.sequence = 0
        self._aead = _aead(keys)
        self._iv = int.from_bytes(keys.iv, "big")

    def seal(self, content_type: int, content: bytes, padding: int = 0) -> bytes:
        """A whole record; `content` and `padding` together are at most MAX_PLAINTEXT bytes."""
        header = _header(ContentType.APPLICATION_DATA, TLS_1_2, len(content) + 1 + padding + _TAG)
        inner = content + bytes((content_type,)) + bytes(padding)
        return header + self._aead.encrypt(self._nonce(), inner, header)

    def open(self, header: bytes, body: bytes) -> tuple[int, bytes]:
        """The content type and the content of a record."""
        try:
            inner = self._aead.decrypt(self._nonce(), body, header)
        except InvalidTag:
            raise PeerError(AlertDescription.BAD_RECORD_MAC, "a record does not decrypt") from None
        if len(inner) > MAX_INNER_PLAINTEXT:
            raise _overflow(len(inner), MAX_INNER_PLAINTEXT)
        inner = inner.rstrip(b"\0")
        if not inner:
            raise _unexpected("a record has no content type")
        return inner[-1], inner[:-1]

    def _nonce(self) -> bytes:
        """Section 5.3, and count this record."""
        nonce = self._iv ^ self.sequence
        self.sequence += 1
        return nonce.to_bytes(IV, "big")


class RecordLayer:
    """Both directions of one handshake. `install` is to be called in the engine's order.

    level: that of the handshake bytes which are received now.
    send, receive: what protects the two directions now, None for nothing yet.
    send_limit: the peer's record_size_limit (RFC 8449), which protected records keep to.
    """

    def __init__(self) -> None:
        self.level = Level.INITIAL
        self.send: Protection | None = None
        self.receive: Protection | None = None
        self.send_limit = MAX_INNER_PLAINTEXT
        self._begun = False  # the first ClientHello was sent or received
        self._boundaries = _Boundaries()
        self._ignored = 0

    def install(self, secret: InstallSecret) -> None:
        """Protect a direction with this secret from the next record on."""
        protection = Protection(TrafficKeys.derive(secret.cipher_suite, secret.secret))
        if secret.direction is Direction.SEND:
            self.send = protection
        else:
            self.receive = protection
            self.level = secret.level

    def handshake(self, data: bytes, *, oldest_version: bool = False) -> bytes:
        """Records with these handshake messages. oldest_version: the initial ClientHello's, for middleboxes."""
        self._begun = True
        if self.send is None:
            version = _TLS_1_0 if oldest_version else TLS_1_2
            records = [_plaintext(ContentType.HANDSHAKE, part, version) for part in _cut(data, MAX_PLAINTEXT)]
        else:
            records = [self.send.seal(ContentType.HANDSHAKE, part) for part in _cut(data, self.send_limit - 1)]
        return b"".join(records)

    def alert(self, description: AlertDescription) -> bytes:
        """A record with an alert (section 6); whoever cancels says so and then closes (6.1)."""
        if description is AlertDescription.USER_CANCELED:
            return self._alert(description) + self._alert(AlertDescription.CLOSE_NOTIFY)
        return self._alert(description)

    def change_cipher_spec(self) -> bytes:
        """The record that middleboxes want to see (appendix D.4)."""
        return _plaintext(ContentType.CHANGE_CIPHER_SPEC, _CHANGE_CIPHER_SPEC)

    def body_length(self, header: bytes) -> int:
        """How many bytes follow these five. legacy_record_version says nothing (section 5.1)."""
        content_type, length = header[0], int.from_bytes(header[3:HEADER], "big")
        if content_type not in _CONTENT_TYPES:
            raise _unexpected(f"there is no content type {content_type}: is it TLS?")
        limit = MAX_CIPHERTEXT if content_type == ContentType.APPLICATION_DATA else MAX_PLAINTEXT
        if length > limit:
            raise _overflow(length, limit)
        return length

    def open(self, header: bytes, body: bytes) -> bytes:
        """The handshake bytes in a record, b"" if it is one that is to be ignored."""
        content_type: int = header[0]
        if content_type == ContentType.CHANGE_CIPHER_SPEC:
            return self._ignore_change_cipher_spec(body)
        if content_type == ContentType.APPLICATION_DATA:
            if self.receive is None:
                raise _unexpected("a protected record came before there are keys")
            content_type, body = self.receive.open(header, body)
        elif self.receive is not None and not self._may_be_plain(content_type):
            raise _unexpected("an unprotected record came where protected ones are due")
        if content_type == ContentType.ALERT:
            return self._receive_alert(body)
        if content_type != ContentType.HANDSHAKE:
            raise _unexpected(f"a record of content type {content_type} came during the handshake")
        if not body:
            raise _unexpected("an empty fragment of a handshake message")
        self._begun = True
        self._boundaries.follow(body)
        return body

    def _alert(self, description: AlertDescription) -> bytes:
        body = bytes((1 if description in _WARNINGS else 2, description))
        return _plaintext(ContentType.ALERT, body) if self.send is None else self.send.seal(ContentType.ALERT, body)

    def _may_be_plain(self, content_type: int) -> bool:
        """An alert may, until the first protected record: a client that can't use our ServerHello has no keys."""
        return content_type == ContentType.ALERT and self.receive is not None and self.receive.sequence == 0

    def _receive_alert(self, body: bytes) -> bytes:
        """Section 6: all are fatal whatever their level says, but for user_canceled, which close_notify follows."""
        if len(body) != 2:
            raise decode_error(f"an alert of {len(body)} bytes")
        if body[1] == AlertDescription.USER_CANCELED:
            return self._ignore("a user_canceled alert")
        raise PeerAlertError(body[1])

    def _ignore_change_cipher_spec(self, body: bytes) -> bytes:
        """Section 5: between the first ClientHello and the peer's Finished, unprotected, and as it is."""
        if not self._begun or self.level is Level.APP:
            raise _unexpected("a change_cipher_spec record came at the wrong time")
        if body != _CHANGE_CIPHER_SPEC:
            raise _unexpected("a change_cipher_spec record that is not one byte of 1")
        return self._ignore("a change_cipher_spec record")

    def _ignore(self, what: str) -> bytes:
        """Nothing may come between the fragments of a handshake message (section 5.1)."""
        if self._boundaries.inside:
            raise _unexpected(f"{what} came in the middle of a handshake message")
        self._ignored += 1
        if self._ignored > _MAX_IGNORED:
            raise _unexpected(f"{what} came where {_MAX_IGNORED} records were already to be ignored")
        return b""


class _Boundaries:
    """Follows the stream of handshake messages to know whether one has begun and not ended."""

    def __init__(self) -> None:
        self._head = bytearray()
        self._missing = 0  # of the body of a message whose head is complete

    @property
    def inside(self) -> bool:
        return bool(self._head or self._missing)

    def follow(self, data: bytes) -> None:
        at = 0
        while at < len(data):
            if self._missing:
                step = min(self._missing, len(data) - at)
                self._missing -= step
                at += step
                continue
            part = data[at : at + 4 - len(self._head)]
            self._head += part
            at += len(part)
            if len(self._head) == 4:
                self._missing = int.from_bytes(self._head[1:], "big")
                self._head.clear()


def _aead(keys: TrafficKeys) -> AESGCM | AESCCM | ChaCha20Poly1305:
    if keys.cipher_suite is CipherSuite.TLS_CHACHA20_POLY1305_SHA256:
        return ChaCha20Poly1305(keys.key)
    if keys.cipher_suite is CipherSuite.TLS_AES_128_CCM_SHA256:
        return AESCCM(keys.key, _TAG)
    return AESGCM(keys.key)


def _header(content_type: ContentType, version: int, length: int) -> bytes:
    return bytes((content_type,)) + version.to_bytes(2, "big") + length.to_bytes(2, "big")


def _plaintext(content_type: ContentType, fragment: bytes, version: int = TLS_1_2) -> bytes:
    return _header(content_type, version, len(fragment)) + fragment


def _cut(data: bytes, size: int) -> Iterator[bytes]:
    return (data[start : start + size] for start in range(0, len(data), size))


def _unexpected(reason: str) -> PeerError:
    return PeerError(AlertDescription.UNEXPECTED_MESSAGE, reason)


def _overflow(length: int, limit: int) -> PeerError:
    return PeerError(AlertDescription.RECORD_OVERFLOW, f"a record of {length} bytes where {limit} are the most")
