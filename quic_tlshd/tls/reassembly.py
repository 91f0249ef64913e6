"""Handshake messages out of a stream of bytes that comes in any portions (RFC 8446 section 4)."""

from __future__ import annotations

from quic_tlshd.tls.alert import AlertDescription, PeerError
from quic_tlshd.tls.iana import HandshakeType

_HEADER = 4  # HandshakeType msg_type; uint24 length
MAX_MESSAGE = 32 * 1024
_MAX_LENGTH = {
    HandshakeType.CERTIFICATE: 128 * 1024,
    HandshakeType.COMPRESSED_CERTIFICATE: 128 * 1024,
    HandshakeType.NEW_SESSION_TICKET: 132 * 1024,  # the longest that there can be
}


class Reassembly:
    """The bytes that no whole message was cut from yet; `len` of it is their number."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def __len__(self) -> int:
        return len(self._buffer)

    def add(self, data: bytes) -> None:
        self._buffer += data

    def next(self) -> bytes | None:
        """Cut off the next whole message, None if there is none yet; illegal_parameter for one that will be too long,
        as soon as it says so."""
        buffer = self._buffer
        if len(buffer) < _HEADER:
            return None
        length = int.from_bytes(buffer[1:_HEADER], "big")
        limit = _MAX_LENGTH.get(buffer[0], MAX_MESSAGE)  # type: ignore[call-overload]  # any number is a key to look for
        if length > limit:
            raise PeerError(
                AlertDescription.ILLEGAL_PARAMETER,
                f"a {message_name(buffer[0])} of {length} bytes is longer than {limit}",
            )
        end = _HEADER + length
        if len(buffer) < end:
            return None
        message = bytes(buffer[:end])
        del buffer[:end]
        return message


def message_name(kind: int) -> str:
    """The RFC's spelling of a message's type, or ``message type 77`` for one that has none."""
    try:
        return HandshakeType(kind).name.lower()
    except ValueError:
        return f"message type {kind}"
