"""What a transport endpoint is to the worker.

Three kinds implement it: a kernel QUIC socket (`quic_kernel`), a TCP socket (`tcp_ktls`) and a QUIC stack in another
process (`userspace`). The engine's events are *applied* to an endpoint; nothing above this line knows which kind it is.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from quic_tlshd.tls.alert import AlertDescription
from quic_tlshd.tls.events import (
    EarlyDataAccepted,
    EarlyDataOffered,
    EarlyDataRefused,
    InstallSecret,
    NewSession,
    PeerRecordSizeLimit,
    PeerTransportParameters,
    Selected,
    SendMessage,
    SkipEarlyData,
)
from quic_tlshd.tls.parameters import ClientCertificate, Level

TransportEvent = (
    SendMessage
    | InstallSecret
    | PeerTransportParameters
    | PeerRecordSizeLimit
    | EarlyDataOffered
    | EarlyDataAccepted
    | EarlyDataRefused
    | SkipEarlyData
    | Selected
    | NewSession
)


class EndpointError(Exception):
    """The transport failed or broke the endpoint's protocol; `errno` is what DONE will say."""

    def __init__(self, errno: int, reason: str) -> None:
        super().__init__(reason)
        self.errno = errno


@dataclass(frozen=True, slots=True)
class Settings:
    """What the transport wants of this handshake.

    transport_parameters: the body of our quic_transport_parameters extension (RFC 9001 section 8.2), None over TCP.
    alpn: the transport's own list (a kernel QUIC socket has one), empty if the upcall's is the one that counts.
    client_certificate: overrides the registry entry's policy on a server, unless None.
    present_certificate: a client that shall not show a certificate even if asked has False here.
    cipher_suites: what the transport can protect packets with, empty for any.
    small_client_hello: a client's first message should fit one packet, for else it might reach another server.
    record_size_limit: the largest record that the transport takes, if it can heed the peer's limit (RFC 8449).
    peer_address: whom the log shall name, if only the transport knows.
    tickets: how many session tickets a server sends if its registry entry does not say.
    ticket_key: what the transport wants them sealed with, empty for the daemon's own key.
    session: a client's, of an earlier handshake (`ticket.Session`, encoded), empty for none.
    session_wait: seconds that a client waits for a ticket after its handshake, 0 if it wants none. session_first:
    whether the connection's owner is to get it together with the connection.
    early_data: whether the transport can carry early data.
    """

    transport_parameters: bytes | None = None
    alpn: tuple[bytes, ...] = ()
    client_certificate: ClientCertificate | None = None
    present_certificate: bool = True
    cipher_suites: tuple[int, ...] = ()
    small_client_hello: bool = False
    record_size_limit: int | None = None
    peer_address: str = ""
    tickets: int = 0
    ticket_key: bytes = field(default=b"", repr=False)
    session: bytes = field(default=b"", repr=False)
    session_wait: float = 0.0
    session_first: bool = False
    early_data: bool = False


class Endpoint(Protocol):
    """One connection's handshake transport. Every method raises EndpointError when the transport is gone or faulty,
    and PeerAlertError when it reports that the peer ended the connection with a TLS alert; PeerError where TLS records
    are the transport and the peer's are wrong."""

    async def settings(self) -> Settings:
        """Ask for the settings; to be called once, first."""
        ...

    async def receive(self) -> tuple[Level, bytes]:
        """Wait for handshake bytes: their encryption level and at least one byte. Where a client has a session_wait,
        also after `finish`."""
        ...

    async def apply(self, event: TransportEvent) -> None:
        """Give the transport what the engine decided, in the engine's order."""
        ...

    async def finish(self) -> None:
        """The handshake is complete: let the connection's owner have it. The last call but for close(), and those that
        a client needs for its session."""
        ...

    async def fail(self, alert: AlertDescription, reason: str) -> None:
        """End the connection with a TLS alert; `reason` is a short phrase that the peer may see. EndpointError is all
        that it raises: what the peer said no longer matters."""
        ...

    def close(self) -> None:
        """Let go of the socket; never raises."""
        ...
