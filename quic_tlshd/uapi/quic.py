"""include/uapi/linux/quic.h: QUIC sockets, of github.com/lxin/quic (July 2026), which is out of tree.

None of these numbers is frozen upstream, so they are here and nowhere else. Structures are in host byte order. The
limits at the end are no part of the header but of net/quic.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from enum import IntEnum
from socket import MSG_MORE
from typing import ClassVar

IPPROTO_QUIC = 261
SOL_QUIC = 288

MSG_QUIC_NOTIFICATION = MSG_MORE  # from recvmsg: an event that the socket's owner asked for, no handshake data

TRANSPORT_ERROR_APPLICATION = 0x0C  # QUIC_TRANSPORT_ERROR_APPLICATION
TRANSPORT_ERROR_CRYPTO = 0x0100  # QUIC_TRANSPORT_ERROR_CRYPTO: plus the TLS alert (RFC 9001 section 4.8)

QUIC_ALPN_MAX_LEN = 128  # of the comma-separated string
QUIC_TP_EXT_MAX_LEN = 512  # of transport parameters, either way
MAX_SESSION_TICKET = 4096


class ControlMessage(IntEnum):
    """`enum quic_cmsg_type`: cmsg_type with cmsg_level SOL_QUIC."""

    STREAM_INFO = 0
    HANDSHAKE_INFO = 1  # struct quic_handshake_info: u8 crypto_level


class CryptoLevel(IntEnum):
    """`enum quic_crypto_level`."""

    APP = 0
    INITIAL = 1
    HANDSHAKE = 2
    EARLY = 3


class SocketOption(IntEnum):
    """`QUIC_SOCKOPT_*`, those that a handshake needs."""

    CONNECTION_CLOSE = 5
    CONFIG = 9
    TOKEN = 10  # EINVAL when read on a server
    ALPN = 11  # a comma-separated string
    SESSION_TICKET = 12  # a server's ticket key; a client's session before the handshake, and a ticket after it
    CRYPTO_SECRET = 13  # to write, while the socket is establishing
    TRANSPORT_PARAM_EXT = 14  # to read ours, to write the peer's, both while the socket is establishing


class CertificateRequest(IntEnum):
    """quic_config's `certificate_request`: 0 to 2 on a server; on a client only NO_CERTIFICATE means anything."""

    IGNORE = 0
    REQUEST = 1
    REQUIRE = 2
    NO_CERTIFICATE = 3


@dataclass(frozen=True, slots=True)
class Config:
    """`struct quic_config`, what of it concerns a handshake.

    payload_cipher_type: TLS_CIPHER_*, 0 for any.
    receive_session_ticket: seconds that a client may wait for a session ticket.
    """

    payload_cipher_type: int = 0
    receive_session_ticket: int = 0
    certificate_request: int = CertificateRequest.IGNORE

    SIZE: ClassVar[int] = 28  # 24 in older trees, which have no keepalive_probe_interval at the end
    _LAYOUT: ClassVar[struct.Struct] = struct.Struct("=12xI3xBB3x")

    @classmethod
    def decode(cls, data: bytes) -> Config:
        """ValueError if it is shorter than any version of the structure."""
        if len(data) < cls._LAYOUT.size:
            raise ValueError(f"struct quic_config has {len(data)} bytes, {cls._LAYOUT.size} are needed")
        return cls(*cls._LAYOUT.unpack_from(data))


@dataclass(frozen=True, slots=True)
class CryptoSecret:
    """`struct quic_crypto_secret`: a traffic secret of at most 48 bytes for one direction.

    send: for what we send. type: TLS_CIPHER_*; its hash says how long the secret is.
    """

    send: bool
    level: int
    type: int
    secret: bytes = field(repr=False)

    _LAYOUT: ClassVar[struct.Struct] = struct.Struct("=BB2xI48s")

    def encode(self) -> bytes:
        return self._LAYOUT.pack(self.send, self.level, self.type, self.secret)


@dataclass(frozen=True, slots=True)
class ConnectionClose:
    """`struct quic_connection_close`: to read, why the connection was closed, by whichever side; to write, what the
    peer will be told. errcode 0 without a phrase if neither has happened. frame: the type of the frame at fault."""

    errcode: int
    phrase: bytes = b""
    frame: int = 0

    MAX_PHRASE: ClassVar[int] = 63  # and a NUL
    _LAYOUT: ClassVar[struct.Struct] = struct.Struct("=IB3x64s")
    SIZE: ClassVar[int] = _LAYOUT.size

    def encode(self) -> bytes:
        """A longer phrase is cut."""
        return self._LAYOUT.pack(self.errcode, self.frame, self.phrase[: self.MAX_PHRASE])

    @classmethod
    def decode(cls, data: bytes) -> ConnectionClose:
        """ValueError if it is shorter than the structure."""
        if len(data) < cls.SIZE:
            raise ValueError(f"struct quic_connection_close has {len(data)} bytes, {cls.SIZE} are needed")
        errcode, frame, phrase = cls._LAYOUT.unpack_from(data)
        return cls(errcode, phrase.partition(b"\0")[0], frame)
