"""What one upcall asks for and how it ended: the two records that every part of the daemon shares."""

from __future__ import annotations

from enum import IntEnum, StrEnum
from errno import EIO

import msgspec

from quic_tlshd.tls.parameters import CertificateChain, Psk


class Role(StrEnum):
    """Our side of the handshake. The kernel's message_type: clienthello 1, serverhello 2."""

    CLIENT = "client"
    SERVER = "server"


class AuthMode(IntEnum):
    """`enum handshake_auth` of linux/handshake.h."""

    UNSPEC = 0
    UNAUTH = 1
    PSK = 2
    X509 = 3


PSK = "psk"
"""What stands for a registry entry where a pre-shared key decides."""


class HandshakeRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One accepted upcall, as the monitor hands it to a worker together with the socket."""

    id: int
    role: Role
    auth_mode: AuthMode
    deadline: float  # of time.monotonic(), which the monitor and its workers have in common
    peer: str  # whom the log names: the socket's peer address, or the caller of a user-space upcall
    netns: str | None = None  # the name in /run/netns of the network namespace, None for the daemon's own
    peername: str | None = None  # client: the name to send as SNI and to verify
    psks: tuple[Psk, ...] = ()  # client: to offer
    certificates: tuple[CertificateChain, ...] = ()  # to show instead of the entry's
    alpn: tuple[bytes, ...] = ()  # client: offered, in order; server: what the transport serves, empty for any
    entries: tuple[str, ...] = ()  # names of the registry entries that this request may use


class HandshakeOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """How a handshake ended. The default is failure: status is EIO until somebody knows better."""

    status: int = EIO  # a positive errno, 0 for success
    reason: str = ""  # why it failed, for our log
    peer: str = ""  # whom the log shall name, if the transport knew better than the request
    alert: int | None = None  # sent (or received, see alert_received), a number of the TLS Alerts registry
    alert_received: bool = False
    alpn_offered: tuple[bytes, ...] = ()  # by the client, whoever that is
    alpn: bytes | None = None
    server_name: str | None = None
    entry: str | None = None
    cipher_suite: str | None = None
    group: str | None = None
    signature_scheme: str | None = None
    psk_identity: bytes | None = None  # of the external PSK that authenticated both
    resumed: bool = False  # a session of before, and with it the certificates of then
    early_data: bool = False  # the server took some
    peer_chain: tuple[bytes, ...] = ()  # DER, the end certificate first; empty when the peer showed none
    tags: tuple[str, ...] = ()
    elapsed: float = 0.0  # seconds, measured by the worker
