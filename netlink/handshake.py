"""The generic netlink family `handshake`: its names, its attributes and what ACCEPT and DONE say.

Source: include/uapi/linux/handshake.h and Documentation/netlink/specs/handshake.yaml of the kernel; the attributes that
are only spoken in user space (netlink/upcall.py) are ours, see netlink/specs/handshake.yaml.

    READY   kernel → group tlshd    a request waits
    ACCEPT  → HANDLER_CLASS         ← the request and its socket, or EAGAIN
    DONE    → status, socket, peer  how the handshake ended

Decoding ignores unknown attributes, as netlink must, and is strict about those it knows: `MalformedMessage` is the only
exception that bytes can raise, and it names the attribute.
"""

from __future__ import annotations

import struct
from contextlib import suppress
from dataclasses import dataclass
from enum import IntEnum
from errno import EIO

from netlink.fields import (
    Field,
    Table,
    binary,
    decode_fields,
    encode_fields,
    integer,
    printable,
    shortened,
    string,
)
from netlink.message import (
    MAX_PAYLOAD,
    NLA_F_NESTED,
    MalformedMessage,
    decode_attributes,
    encode_attributes,
    split_attributes,
)

__all__ = [
    "FAMILY",
    "GROUP",
    "VERSION",
    "Accept",
    "AcceptAttribute",
    "AuthMode",
    "Certificate",
    "Command",
    "Done",
    "DoneAttribute",
    "HandlerClass",
    "MalformedMessage",
    "MessageType",
    "X509Attribute",
    "decode_accept",
    "decode_attributes",
    "decode_done",
    "encode_accept",
    "encode_accept_request",
    "encode_attributes",
    "encode_done",
    "encode_kernel_done",
    "salvage_sockfd",
]

FAMILY = "handshake"
VERSION = 1
GROUP = "tlshd"  # where READY for HandlerClass.TLSHD is sent

MAX_STATUS = 4095  # MAX_ERRNO
MAX_PEERNAME = 255  # a DNS name's
MAX_ALPN = 1 << 15  # bytes of a ProtocolNameList; a ClientHello has 65535 for all its extensions (RFC 8446, 4.1.2)
MAX_REASON = 1024  # bytes


class Command(IntEnum):
    """`HANDSHAKE_CMD_*`."""

    READY = 1
    ACCEPT = 2
    DONE = 3


class HandlerClass(IntEnum):
    """`enum handshake_handler_class`."""

    NONE = 0
    TLSHD = 1


class MessageType(IntEnum):
    """`enum handshake_msg_type`: with CLIENTHELLO we are the client."""

    UNSPEC = 0
    CLIENTHELLO = 1
    SERVERHELLO = 2


class AuthMode(IntEnum):
    """`enum handshake_auth`. UNAUTH means that *we* present nothing; a server is verified all the same."""

    UNSPEC = 0
    UNAUTH = 1
    PSK = 2
    X509 = 3


class X509Attribute(IntEnum):
    """`HANDSHAKE_A_X509_*`, inside ACCEPT's CERTIFICATE."""

    CERT = 1
    PRIVKEY = 2


# Our own attributes start at 0x1001: patches to the kernel's family claim numbers right after the last one (DONE 4 and
# ACCEPT 10 and 11 mean different things in different trees), and nla_type has 14 bits.


class AcceptAttribute(IntEnum):
    """`HANDSHAKE_A_ACCEPT_*`, and ALPN in user space."""

    SOCKFD = 1
    HANDLER_CLASS = 2
    MESSAGE_TYPE = 3
    TIMEOUT = 4
    AUTH_MODE = 5
    PEER_IDENTITY = 6
    CERTIFICATE = 7
    PEERNAME = 8
    KEYRING = 9
    ALPN = 0x1001


class DoneAttribute(IntEnum):
    """`HANDSHAKE_A_DONE_*`, and what only user space is told."""

    STATUS = 1
    SOCKFD = 2
    REMOTE_AUTH = 3
    SELECTED_ALPN = 0x1001
    SELECTED_SERVER_NAME = 0x1002
    MATCHED_ENTRY = 0x1003
    TAG = 0x1004
    PEER_CERTIFICATE = 0x1005
    ALERT = 0x1006
    REASON = 0x1007


@dataclass(frozen=True, slots=True)
class Certificate:
    """The serials of two keys that hold DER: the certificate and its private key. 0 is none."""

    cert: int
    privkey: int


@dataclass(frozen=True, slots=True)
class Accept:
    """A handshake that is asked for. message_type and auth_mode are plain ints so that tomorrow's values decode too."""

    sockfd: int = -1
    message_type: int = 0
    auth_mode: int = 0
    timeout: int = 0  # milliseconds, 0 for none given
    handler_class: int = HandlerClass.TLSHD
    peer_identities: tuple[int, ...] = ()  # key serials of PSKs; a server's single one may be 0
    certificates: tuple[Certificate, ...] = ()
    peername: str | None = None  # for server_name, and to verify; printable ASCII
    keyring: int | None = None  # key serial; the kernel links it into the process keyring of who calls ACCEPT
    alpn: tuple[bytes, ...] = ()  # user space only: offered or served, in order of preference


@dataclass(frozen=True, slots=True)
class Done:
    """How a handshake ended. The default is failure. All after remote_auth is for user space only."""

    status: int = EIO  # a positive errno, 0 for success
    sockfd: int = -1
    remote_auth: tuple[int, ...] = ()  # key serials of peer identities; the first reaches the kernel's consumer
    alpn: bytes | None = None
    server_name: str | None = None
    entry: str | None = None  # the registry entry that decided
    tags: tuple[str, ...] = ()
    peer_chain: tuple[bytes, ...] = ()  # DER, the end certificate first
    alert: int | None = None  # TLS AlertDescription
    reason: str | None = None


_X509 = Table(
    integer(X509Attribute.CERT, "cert", "=i", absent=0),
    integer(X509Attribute.PRIVKEY, "privkey", "=i", absent=0),
)


def _encode_certificate(certificate: Certificate) -> bytes:
    return encode_fields(_X509, certificate)


def _decode_certificate(payload: bytes) -> Certificate:
    return Certificate(**{"cert": 0, "privkey": 0, **decode_fields(_X509, payload)})


_ACCEPT = Table(
    integer(AcceptAttribute.SOCKFD, "sockfd", "=i", absent=-1),
    integer(AcceptAttribute.HANDLER_CLASS, "handler_class", "=I"),
    integer(AcceptAttribute.MESSAGE_TYPE, "message_type", "=I"),
    integer(AcceptAttribute.TIMEOUT, "timeout", "=I", absent=0),
    integer(AcceptAttribute.AUTH_MODE, "auth_mode", "=I"),
    integer(AcceptAttribute.PEER_IDENTITY, "peer_identities", "=I", repeats=True),
    Field(
        AcceptAttribute.CERTIFICATE,
        "certificates",
        _encode_certificate,
        _decode_certificate,
        repeats=True,
        flags=NLA_F_NESTED,
    ),
    printable(AcceptAttribute.PEERNAME, "peername", most=MAX_PEERNAME),
    integer(AcceptAttribute.KEYRING, "keyring", "=I"),
    binary(AcceptAttribute.ALPN, "alpn", most=255, repeats=True),
)

# All that may ever reach the kernel. Not a filter over the larger table: what is not here can't be encoded for it.
_KERNEL_DONE = Table(
    integer(DoneAttribute.STATUS, "status", "=I", most=MAX_STATUS),
    integer(DoneAttribute.SOCKFD, "sockfd", "=i", absent=-1),
    integer(DoneAttribute.REMOTE_AUTH, "remote_auth", "=I", repeats=True),
)

_DONE = Table(
    *_KERNEL_DONE.values(),
    binary(DoneAttribute.SELECTED_ALPN, "alpn", most=255),
    string(DoneAttribute.SELECTED_SERVER_NAME, "server_name"),
    string(DoneAttribute.MATCHED_ENTRY, "entry"),
    string(DoneAttribute.TAG, "tags", repeats=True),
    binary(DoneAttribute.PEER_CERTIFICATE, "peer_chain", most=MAX_PAYLOAD, repeats=True),
    integer(DoneAttribute.ALERT, "alert", "=I", most=255),
    shortened(DoneAttribute.REASON, "reason", most=MAX_REASON),
)


def encode_accept(accept: Accept) -> bytes:
    """The attributes of an upcall's request."""
    return encode_fields(_ACCEPT, _checked(accept))


def encode_accept_request() -> bytes:
    """The attributes of the ACCEPT that asks the kernel for its next request: only HANDLER_CLASS is allowed in it."""
    return encode_attributes([(AcceptAttribute.HANDLER_CLASS, struct.pack("=I", HandlerClass.TLSHD))])


def decode_accept(attributes: bytes) -> Accept:
    """The request in the kernel's reply to ACCEPT, or in an upcall."""
    return _checked(Accept(**decode_fields(_ACCEPT, attributes)))


def _checked(accept: Accept) -> Accept:
    """`accept`, if a ClientHello has room for its ALPN."""
    length = sum(1 + len(name) for name in accept.alpn)
    if length > MAX_ALPN:
        raise MalformedMessage(f"ALPN: {length} bytes in all, at most {MAX_ALPN}")
    return accept


def salvage_sockfd(attributes: bytes) -> int | None:
    """The SOCKFD of an ACCEPT that decode_accept refused, so that its consumer still hears of it."""
    with suppress(MalformedMessage):
        for number, payload in split_attributes(attributes):
            if number == AcceptAttribute.SOCKFD and len(payload) == 4:
                return int(struct.unpack("=i", payload)[0])
    return None


def encode_done(done: Done) -> bytes:
    """The attributes of DONE for user space. Never for the kernel: see encode_kernel_done."""
    return encode_fields(_DONE, done)


def encode_kernel_done(done: Done) -> bytes:
    """The attributes of DONE for the kernel: STATUS, SOCKFD and REMOTE_AUTH, and no other."""
    return encode_fields(_KERNEL_DONE, done)


def decode_done(attributes: bytes) -> Done:
    """How a handshake ended. A DONE without STATUS is a failure: EIO."""
    return Done(**decode_fields(_DONE, attributes))
