"""Commands to a generic netlink family, and the kernel's answers. It answers before send() returns: nothing waits."""

from __future__ import annotations

import errno
import os
import struct
from typing import Protocol

from netlink.message import MalformedMessage, Message, decode_messages, encode_message, split_attributes

NETLINK_CAP_ACK = 10  # an error answer without the request's attributes
NETLINK_EXT_ACK = 11  # and with the kernel's reason in words
ANSWER_OPTIONS = (NETLINK_CAP_ACK, NETLINK_EXT_ACK)  # that a socket for commands should have
NLMSG_ERROR = 2
NLMSGERR_ATTR_MSG = 1
EXPLAINED = 0x300  # NLM_F_CAPPED and NLM_F_ACK_TLVS
MAX_ERRNO = 4095

RECEIVE_SIZE = 32768  # NLMSG_GOODSIZE is at most 8 KiB


class NetlinkSocket(Protocol):
    """What is used of a socket; `fileno` only of one that messages are waited for on."""

    def send(self, data: bytes, /) -> int: ...
    def recv(self, size: int, /) -> bytes: ...
    def fileno(self) -> int: ...
    def close(self) -> None: ...


class CommandSocket:
    """A non-blocking socket for commands to the family of that number and version; ours to close. None is closed."""

    def __init__(self, sock: NetlinkSocket | None = None, family: int = 0, version: int = 0) -> None:
        self._sock = sock
        self._family = family
        self._version = version
        self._sequence = 0

    def close(self) -> None:
        """May be called twice."""
        if self._sock is not None:
            self._sock.close()
            self._sock = None

    def send(self, command: int, attributes: bytes, flags: int) -> bytes:
        """The answer's attributes, none for an acknowledgement. OSError is the kernel's answer, or EBADF or EPROTO."""
        if self._sock is None:
            raise OSError(errno.EBADF, "the netlink socket is closed")
        self._sequence = (self._sequence + 1) & 0xFFFFFFFF
        self._sock.send(encode_message(self._family, flags, self._sequence, command, self._version, attributes))
        try:
            answer = self._receive(self._sock)
            code, text = _read_error(answer) if answer.type == NLMSG_ERROR else (0, "")
            if code == 0:
                return b"" if answer.type == NLMSG_ERROR else answer.generic()[2]
        except BlockingIOError:  # not the kernel's EAGAIN: that is an answer
            raise OSError(errno.EPROTO, "the kernel gave no answer") from None
        except MalformedMessage as error:
            raise OSError(errno.EPROTO, f"the kernel's answer is malformed: {error}") from error
        raise OSError(code, text)

    def _receive(self, sock: NetlinkSocket) -> Message:
        while True:
            for message in decode_messages(sock.recv(RECEIVE_SIZE)):
                if message.sequence == self._sequence:  # another one answers a command that was given up
                    return message


def _read_error(message: Message) -> tuple[int, str]:
    """`struct nlmsgerr`: a negative errno or 0, the request's nlmsghdr, then what NETLINK_EXT_ACK adds."""
    code = -struct.unpack_from("=i", message.payload)[0] if len(message.payload) >= 4 else -1
    if not 0 <= code <= MAX_ERRNO:
        raise MalformedMessage(f"nlmsgerr: {message.payload[:4].hex()}")
    text = os.strerror(code)
    if message.flags & EXPLAINED == EXPLAINED:
        for number, payload in split_attributes(message.payload[20:]):
            if number == NLMSGERR_ATTR_MSG:
                text += ": " + payload.rstrip(b"\0").decode(errors="replace")
    return code, text
