"""Netlink framing: `struct nlmsghdr`, `struct genlmsghdr` and `struct nlattr`, in host byte order, aligned to 4 bytes.

Sources: include/uapi/linux/netlink.h, include/uapi/linux/genetlink.h. Decoding is strict and total: whatever the bytes
are, the result is a value or `MalformedMessage`.

Written with struct and not with pyroute2's nla classes because every upcall passes here: tests/bench/bench_netlink.py
measures the difference, and tests/netlink checks the bytes against pyroute2's codec.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

NLM_F_REQUEST = 0x1
NLM_F_ACK = 0x4

NLA_F_NESTED = 0x8000
NLA_TYPE_MASK = 0x3FFF  # without NLA_F_NESTED and NLA_F_NET_BYTEORDER
MAX_PAYLOAD = 0xFFFF - 4  # nla_len is 16 bits wide and counts the header

_NLMSGHDR = struct.Struct("=IHHII")  # nlmsg_len, nlmsg_type, nlmsg_flags, nlmsg_seq, nlmsg_pid
_GENLMSGHDR = struct.Struct("=BBH")  # cmd, version, reserved
_NLATTR = struct.Struct("=HH")  # nla_len, nla_type
_HEADER = struct.Struct("=IHHIIBBH")  # both message headers
_PADDING = (b"", b"\0\0\0", b"\0\0", b"\0")


class MalformedMessage(ValueError):  # noqa: N818  # what it is says more than that it is an error
    """Bytes that are no message of this protocol, or a value that no message can carry. Says which attribute."""


@dataclass(frozen=True, slots=True)
class Message:
    """One netlink message; `payload` is what follows `struct nlmsghdr`."""

    type: int
    flags: int
    sequence: int
    payload: bytes

    def generic(self) -> tuple[int, int, bytes]:
        """The payload as generic netlink has it: (cmd, version, attributes)."""
        if len(self.payload) < _GENLMSGHDR.size:
            raise MalformedMessage(f"genlmsghdr: {len(self.payload)} bytes")
        command, version, _ = _GENLMSGHDR.unpack_from(self.payload)
        return command, version, self.payload[_GENLMSGHDR.size :]


def encode_attributes(pairs: Iterable[tuple[int, bytes]]) -> bytes:
    """A run of `struct nlattr` from (nla_type, payload) pairs; the type may carry NLA_F_NESTED."""
    parts: list[bytes] = []
    for number, payload in pairs:
        length = len(payload)
        if length > MAX_PAYLOAD:
            raise MalformedMessage(f"attribute {number & NLA_TYPE_MASK:#x}: {length} bytes, at most {MAX_PAYLOAD} fit")
        parts += (_NLATTR.pack(length + 4, number), payload, _PADDING[length & 3])
    return b"".join(parts)


def split_attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The (nla_type without its flag bits, payload) pairs of a run of `struct nlattr`, up to where it goes wrong.

    There it raises MalformedMessage, after it gave what came before.
    """
    end, offset = len(data), 0
    while offset < end:
        if end - offset < 4:
            raise MalformedMessage(f"attributes: {end - offset} bytes after the last one")
        length, number = _NLATTR.unpack_from(data, offset)
        number &= NLA_TYPE_MASK
        if length < 4:
            raise MalformedMessage(f"attribute {number:#x}: nla_len is {length}")
        if offset + ((length + 3) & ~3) > end:
            raise MalformedMessage(f"attribute {number:#x}: truncated, {end - offset} of {length} bytes")
        yield number, data[offset + 4 : offset + length]
        offset += (length + 3) & ~3


def decode_attributes(data: bytes) -> list[tuple[int, bytes]]:
    """All pairs of split_attributes, or MalformedMessage."""
    return list(split_attributes(data))


def encode_message(number: int, flags: int, sequence: int, command: int, version: int, attributes: bytes) -> bytes:
    """One generic netlink message. nlmsg_pid is 0: the kernel fills in the sender's port."""
    return _HEADER.pack(_HEADER.size + len(attributes), number, flags, sequence, 0, command, version, 0) + attributes


def decode_messages(data: bytes) -> Iterator[Message]:
    """Every message of one datagram; raises MalformedMessage where the next header is not right."""
    offset = 0
    while offset < len(data):
        if len(data) - offset < _NLMSGHDR.size:
            raise MalformedMessage(f"nlmsghdr: {len(data) - offset} bytes")
        length, number, flags, sequence, _ = _NLMSGHDR.unpack_from(data, offset)
        if not _NLMSGHDR.size <= length <= len(data) - offset:
            raise MalformedMessage(f"nlmsghdr: nlmsg_len is {length}, {len(data) - offset} bytes are there")
        yield Message(number, flags, sequence, data[offset + _NLMSGHDR.size : offset + length])
        offset += (length + 3) & ~3


def peek_sequence(data: bytes) -> int | None:
    """nlmsg_seq of a message that may otherwise be wrong, None where it is too short to have one."""
    return int(_NLMSGHDR.unpack_from(data)[3]) if len(data) >= _NLMSGHDR.size else None
