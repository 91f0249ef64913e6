"""The presentation language of RFC 8446, section 3: vectors and numbers, read strictly.

Messages are cut with flat slices: every reader takes the whole buffer and a position and gives the new position.
What does not fit is PeerError(decode_error), never an IndexError.
"""

from __future__ import annotations

from functools import lru_cache
from struct import unpack

from quic_tlshd.tls.alert import AlertDescription, PeerError


def decode_error(reason: str) -> PeerError:
    return PeerError(AlertDescription.DECODE_ERROR, reason)


def read_vector(data: bytes, at: int, width: int, what: str, floor: int = 0) -> tuple[bytes, int]:
    """The vector at `at` whose length takes `width` bytes and is at least `floor`, and the position behind it."""
    start = at + width
    length = int.from_bytes(data[at:start], "big")
    end = start + length
    if end > len(data) or start > len(data):
        raise decode_error(f"{what} is cut short")
    if length < floor:
        raise decode_error(f"{what} is shorter than {floor} bytes")
    return data[start:end], end


def read_exactly(data: bytes, width: int, what: str, floor: int = 0) -> bytes:
    """The vector that `data` consists of: nothing may follow it."""
    vector, end = read_vector(data, 0, width, what, floor)
    if end != len(data):
        raise decode_error(f"{len(data) - end} bytes follow {what}")
    return vector


def read_uint16s(vector: bytes, what: str) -> tuple[int, ...]:
    """The numbers of a vector of uint16."""
    if len(vector) & 1:
        raise decode_error(f"{what} has an odd length")
    return unpack(f"!{len(vector) // 2}H", vector)


def vector8(data: bytes) -> bytes:
    return len(data).to_bytes(1, "big") + data


def vector16(data: bytes) -> bytes:
    return len(data).to_bytes(2, "big") + data


def vector24(data: bytes) -> bytes:
    return len(data).to_bytes(3, "big") + data


def uint16(number: int) -> bytes:
    return number.to_bytes(2, "big")


@lru_cache(maxsize=256)
def uint16s(numbers: tuple[int, ...]) -> bytes:
    """Remembered: what we send of these comes from the same few settings every time."""
    return b"".join([number.to_bytes(2, "big") for number in numbers])
