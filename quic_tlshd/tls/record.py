"""The record protocol, RFC 8446 section 5.

No I/O: what is to be sent comes out as bytes, and what was received goes in record by record, header first, so that
whoever reads the socket knows how many bytes to take and takes none too many. The peer's bytes can only raise PeerError
or PeerAlertError.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum
from typing import NamedTuple

from quic_tlshd.tls.alert import AlertDescription, PeerAlertError, PeerError
from quic_tlshd.tls.codec import decode_error
from quic_tlshd.tls.events import InstallSecret
from quic_tlshd.tls.iana import TLS_1_2, HandshakeType
from quic_tlshd.tls.parameters import Direction, Level
from quic_tlshd.tls.protection import MAX_INNER_PLAINTEXT, TAG, Protection, TrafficKeys, overflow
from quic_tlshd.tls.reassembly import Boundaries

HEADER = 5  # ContentType type; ProtocolVersion legacy_record_version; uint16 length
MAX_PLAINTEXT = 2**14  # of TLSPlaintext.fragment
MAX_CIPHERTEXT = MAX_PLAINTEXT + 256  # of TLSCiphertext.encrypted_record
_MAX_IGNORED = 32  # records without a use for anybody, in one connection
_TLS_1_0 = 0x0301
_SESSION_ID = 38  # offset of legacy_session_id's length in a ClientHello, of legacy_session_id_echo's in a ServerHello
_CHANGE_CIPHER_SPEC = b"\x01"
_WARNINGS = (AlertDescription.CLOSE_NOTIFY, AlertDescription.USER_CANCELED)


class ContentType(IntEnum):
    """ContentType, RFC 8446 section 5.1."""

    CHANGE_CIPHER_SPEC = 20
    ALERT = 21
    HANDSHAKE = 22
    APPLICATION_DATA = 23


_CONTENT_TYPES = frozenset(ContentType)


class Fragment(NamedTuple):
    """What a record held. content_type: HANDSHAKE or APPLICATION_DATA; only the latter can be empty."""

    content_type: ContentType
    content: bytes


class RecordLayer:
    """Both directions of one connection. `install` is to be called in the engine's order.

    level: that of the handshake bytes which are received now.
    send, receive: what protects the two directions now, None for nothing yet.
    send_limit, receive_limit: the record_size_limit (RFC 8449) of the peer and our own, which protected records keep
    to: bytes of content, its type and padding.
    padding: the lengths of protected contents are filled up to multiples of it (section 5.4).
    """

    def __init__(self, padding: int = 1) -> None:
        self.level = Level.INITIAL
        self.send: Protection | None = None
        self.receive: Protection | None = None
        self.send_limit = MAX_INNER_PLAINTEXT
        self.receive_limit = MAX_INNER_PLAINTEXT
        self._padding = padding
        self._begun = False  # the first ClientHello was sent or received
        self._sent = False  # any handshake message of ours
        self._owes_change_cipher_spec = False
        self._skippable: int | None = None  # bytes of early data
        self._early_data = 0  # bytes of early data that may still come
        self._boundaries = Boundaries()
        self._ignored = 0

    def install(self, secret: InstallSecret) -> None:
        """Protect a direction with this secret from the next record on."""
        keys = TrafficKeys.derive(secret.cipher_suite, secret.secret)
        if secret.direction is Direction.SEND:
            self.send = Protection(keys)
        else:
            self._receive_with(keys)
            self.level = secret.level

    def update_send(self) -> None:
        """Our KeyUpdate was the last record under the keys of now (section 4.6.3)."""
        assert self.send is not None
        self.send = Protection(self.send.keys.update())

    def update_receive(self) -> None:
        """The peer's KeyUpdate was the last record under the keys of now."""
        assert self.receive is not None
        self._receive_with(self.receive.keys.update())

    def skip_early_data(self, limit: int) -> None:
        """The client sends early data that we do not take: throw away its records, up to that many bytes (section
        4.2.10). That is all that can't be opened until the first that can; after a HelloRetryRequest, all protected
        ones until the second ClientHello."""
        self._skippable = limit

    def take_early_data(self, limit: int) -> None:
        """The client sends early data that we take, that many bytes of content at most."""
        self._early_data = limit

    def end_early_data(self) -> None:
        """The early data that we sent was refused: protect nothing with its keys any more."""
        self.send = None

    def handshake(self, data: bytes) -> bytes:
        """Records with these handshake messages, and the change_cipher_spec of appendix D.4: if a legacy_session_id is
        in use, the server sends it behind its first message and the client before its second flight."""
        if self._sent:
            return self._change_cipher_spec() + self._handshake(data)
        self._sent = self._begun = True
        is_compatible = data[_SESSION_ID : _SESSION_ID + 1] not in (b"", b"\0")
        if data[0] == HandshakeType.CLIENT_HELLO:
            self._owes_change_cipher_spec = is_compatible
            return self._handshake(data, _TLS_1_0 if is_compatible else TLS_1_2)
        records = self._handshake(data)
        self._owes_change_cipher_spec = is_compatible
        return records + self._change_cipher_spec()

    def application_data(self, data: bytes) -> bytes:
        """Records with application data, or with early data."""
        return self._change_cipher_spec() + self._protected(ContentType.APPLICATION_DATA, data)

    def alert(self, description: AlertDescription) -> bytes:
        """A record with an alert (section 6); whoever cancels says so and then closes (6.1)."""
        if description is AlertDescription.USER_CANCELED:
            return self._alert(description) + self._alert(AlertDescription.CLOSE_NOTIFY)
        return self._alert(description)

    def body_length(self, header: bytes) -> int:
        """How many bytes follow these five. legacy_record_version says nothing (section 5.1)."""
        content_type, length = header[0], int.from_bytes(header[3:HEADER], "big")
        if content_type not in _CONTENT_TYPES:
            raise _unexpected(f"there is no content type {content_type}: is it TLS?")
        limit = MAX_CIPHERTEXT if content_type == ContentType.APPLICATION_DATA else MAX_PLAINTEXT
        if length > limit:
            raise overflow(length, limit)
        return length

    def open(self, header: bytes, body: bytes) -> Fragment | None:
        """What is in a record, None if it is one that is to be ignored."""
        content_type: int = header[0]
        if content_type == ContentType.CHANGE_CIPHER_SPEC:
            self._ignore_change_cipher_spec(body)
            return None
        if content_type == ContentType.APPLICATION_DATA:
            opened = self._open_protected(header, body)
            if opened is None:
                return None
            content_type, body = opened
        elif self.receive is not None and not self._may_be_plain(content_type):
            raise _unexpected("an unprotected record came where protected ones are due")
        if content_type == ContentType.ALERT:
            self._receive_alert(body)
            return None
        if content_type == ContentType.HANDSHAKE:
            return self._receive_handshake(body)
        if content_type == ContentType.APPLICATION_DATA and self.level in (Level.EARLY, Level.APP):
            return self._receive_application_data(body)
        raise _unexpected(f"a record of content type {content_type} came at the {self.level.name} level")

    def _receive_with(self, keys: TrafficKeys) -> None:
        """Section 5.1: handshake messages must not span key changes."""
        if self._boundaries.inside:
            raise _unexpected("the keys change in the middle of a handshake message")
        self.receive = Protection(keys)

    def _handshake(self, data: bytes, version: int = TLS_1_2) -> bytes:
        if self.send is not None:
            return self._protected(ContentType.HANDSHAKE, data)
        return b"".join([_plaintext(ContentType.HANDSHAKE, part, version) for part in _cut(data, MAX_PLAINTEXT)])

    def _protected(self, content_type: ContentType, data: bytes) -> bytes:
        assert self.send is not None
        most = self.send_limit - 1
        return b"".join(
            [
                self.send.seal(content_type, part, min(-(len(part) + 1) % self._padding, most - len(part)))
                for part in _cut(data, most)
            ]
        )

    def _alert(self, description: AlertDescription) -> bytes:
        body = bytes((1 if description in _WARNINGS else 2, description))
        return _plaintext(ContentType.ALERT, body) if self.send is None else self._protected(ContentType.ALERT, body)

    def _change_cipher_spec(self) -> bytes:
        """The record that middleboxes want to see, if it is due."""
        if not self._owes_change_cipher_spec:
            return b""
        self._owes_change_cipher_spec = False
        return _plaintext(ContentType.CHANGE_CIPHER_SPEC, _CHANGE_CIPHER_SPEC)

    def _open_protected(self, header: bytes, body: bytes) -> tuple[int, bytes] | None:
        """The content type and content of a protected record, None for skipped early data."""
        if self.receive is None:
            if self._skippable is None:
                raise _unexpected("a protected record came before there are keys")
            self._skip(body)
            return None
        try:
            opened = self.receive.open(header, body, self.receive_limit)
        except PeerError as error:
            if self._skippable is None or error.alert is not AlertDescription.BAD_RECORD_MAC:
                raise
            self._skip(body)
            return None
        self._skippable = None
        return opened

    def _skip(self, body: bytes) -> None:
        """Count the bytes that early data has at most, and one for a record that has none."""
        assert self._skippable is not None
        self._skippable -= max(len(body) - TAG - 1, 1)
        if self._skippable < 0:
            raise _unexpected("more early data came than is skipped")

    def _may_be_plain(self, content_type: int) -> bool:
        """An alert may, until the first protected record: a client that can't use our ServerHello has no keys."""
        return content_type == ContentType.ALERT and self.receive is not None and self.receive.sequence == 0

    def _receive_handshake(self, body: bytes) -> Fragment:
        if not body:
            raise _unexpected("an empty fragment of a handshake message")
        self._begun = True
        if self.receive is None:
            self._skippable = None  # it is the second ClientHello, behind which there is no early data
        self._boundaries.follow(body)
        return Fragment(ContentType.HANDSHAKE, body)

    def _receive_application_data(self, body: bytes) -> Fragment:
        if self._boundaries.inside:
            raise _unexpected("application data came in the middle of a handshake message")
        if self.level is Level.EARLY:
            self._early_data -= len(body)
            if self._early_data < 0:
                raise _unexpected("more early data came than the ticket allows")
        return Fragment(ContentType.APPLICATION_DATA, body)

    def _receive_alert(self, body: bytes) -> None:
        """Section 6: all are fatal whatever their level says, but for user_canceled, which close_notify follows."""
        if not body:
            raise _unexpected("an empty alert")  # section 5.4
        if len(body) != 2:
            raise decode_error(f"an alert of {len(body)} bytes")
        if body[1] != AlertDescription.USER_CANCELED:
            raise PeerAlertError(body[1])
        self._ignore("a user_canceled alert")

    def _ignore_change_cipher_spec(self, body: bytes) -> None:
        """Section 5: between the first ClientHello and the peer's Finished, unprotected, and as it is."""
        if not self._begun or self.level is Level.APP:
            raise _unexpected("a change_cipher_spec record came at the wrong time")
        if body != _CHANGE_CIPHER_SPEC:
            raise _unexpected("a change_cipher_spec record that is not one byte of 1")
        self._ignore("a change_cipher_spec record")

    def _ignore(self, what: str) -> None:
        """Nothing may come between the fragments of a handshake message (section 5.1)."""
        if self._boundaries.inside:
            raise _unexpected(f"{what} came in the middle of a handshake message")
        self._ignored += 1
        if self._ignored > _MAX_IGNORED:
            raise _unexpected(f"{what} came where {_MAX_IGNORED} records were already to be ignored")


def _plaintext(content_type: ContentType, fragment: bytes, version: int = TLS_1_2) -> bytes:
    return bytes((content_type,)) + version.to_bytes(2, "big") + len(fragment).to_bytes(2, "big") + fragment


def _cut(data: bytes, size: int) -> Iterator[bytes]:
    return (data[start : start + size] for start in range(0, len(data), size))


def _unexpected(reason: str) -> PeerError:
    return PeerError(AlertDescription.UNEXPECTED_MESSAGE, reason)
