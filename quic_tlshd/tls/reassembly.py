"""Handshake messages out of a stream of bytes that comes in any portions (RFC 8446 section 4)."""

from __future__ import annotations

from quic_tlshd.tls.alert import AlertDescription, PeerError
from quic_tlshd.tls.iana import HandshakeType

_HEADER = 4  # HandshakeType msg_type; uint24 length
MAX_MESSAGE = 32 * 1024
_MAX_LENGTH = {
    HandshakeType.CLIENT_HELLO: 132 * 1024,  # all that there can be
    HandshakeType.CERTIFICATE: 128 * 1024,
    HandshakeType.COMPRESSED_CERTIFICATE: 128 * 1024,
    HandshakeType.NEW_SESSION_TICKET: 132 * 1024,  # the longest that there can be
}
_CERTIFICATES = (HandshakeType.CERTIFICATE, HandshakeType.COMPRESSED_CERTIFICATE)


class Reassembly:
    """The bytes that no whole message was cut from yet; `len` of it is their number."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def __len__(self) -> int:
        return len(self._buffer)

    def add(self, data: bytes) -> None:
        self._buffer += data

    def next(self) -> bytes | None:
        """Cut off the next whole message, None if there is none yet. One that will be too long is refused as soon as it
        says so: bad_certificate for certificates, which can be as good as others but more, else decode_error."""
        buffer = self._buffer
        if len(buffer) < _HEADER:
            return None
        length = int.from_bytes(buffer[1:_HEADER], "big")
        limit = _MAX_LENGTH.get(buffer[0], MAX_MESSAGE)  # type: ignore[call-overload]  # any number is a key to look for
        if length > limit:
            alert = AlertDescription.BAD_CERTIFICATE if buffer[0] in _CERTIFICATES else AlertDescription.DECODE_ERROR
            raise PeerError(alert, f"a {message_name(buffer[0])} of {length} bytes is longer than {limit}")
        end = _HEADER + length
        if len(buffer) < end:
            return None
        message = bytes(buffer[:end])
        del buffer[:end]
        return message


class Boundaries:
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


def message_name(kind: int) -> str:
    """The RFC's spelling of a message's type, or ``message type 77`` for one that has none."""
    try:
        return HandshakeType(kind).name.lower()
    except ValueError:
        return f"message type {kind}"
