"""What a handshake wants done, in the order in which it must be done.

A driver *applies* each event. Some ask for something: `ReceiveMessage`, which the engine answers itself, and every
`Question`, which the driver answers, as late as it likes.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from quic_tlshd.tls.iana import CipherSuite, NamedGroup, SignatureScheme
from quic_tlshd.tls.key_schedule import Exporter
from quic_tlshd.tls.parameters import CertificateChain, Direction, Level, PreSharedKey


@dataclass(frozen=True, slots=True)
class SendMessage:
    """Handshake bytes for the peer: one or more whole messages at one encryption level."""

    level: Level
    data: bytes


@dataclass(frozen=True, slots=True)
class InstallSecret:
    """A traffic secret (RFC 8446 section 7.1) that the transport derives its keys from; as long as the suite's hash."""

    level: Level
    direction: Direction
    cipher_suite: CipherSuite
    secret: bytes

    def __repr__(self) -> str:
        return f"InstallSecret({self.level.name}, {self.direction.name}, {self.cipher_suite.name}, secret=…)"


@dataclass(frozen=True, slots=True)
class PeerTransportParameters:
    """The body of the peer's quic_transport_parameters extension (RFC 9001 section 8.2), unparsed."""

    data: bytes


@dataclass(frozen=True, slots=True)
class PeerRecordSizeLimit:
    """The largest record that the peer takes from now on: bytes of content and its type (RFC 8449 section 4)."""

    limit: int


@dataclass(frozen=True, slots=True)
class SkipEarlyData:
    """The client sends early data, and it won't be taken (RFC 8446 section 4.2.10): up to `limit` bytes in records that
    can't be opened are to be thrown away. QUIC has packets of their own for early data, which need nothing."""

    limit: int


@dataclass(frozen=True, slots=True)
class Selected:
    """What was negotiated in the clear-text of the handshake; `entry` names the registry entry that matched."""

    alpn: bytes | None
    server_name: str | None
    entry: str


@dataclass(frozen=True, slots=True)
class Sign:
    """Wanted: the signature of a CertificateVerify (RFC 8446 section 4.4.3) over `transcript_hash`, by the key of
    `certificate`. The content that is signed (padding, context string, hash) is built by whoever holds the key."""

    certificate: CertificateChain
    scheme: SignatureScheme
    transcript_hash: bytes


@dataclass(frozen=True, slots=True)
class FindPsk:
    """Wanted: the key of one of the PSK identities that the client offers (RFC 8446 section 4.2.11), the first that is
    known: that of an external PSK, or a ticket that was sealed for `entry`. To be answered with a FoundPsk, or None;
    asked again for the identities behind that one if it doesn't fit."""

    entry: str
    identities: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class FoundPsk:
    """The answer to FindPsk. index: of the identity among FindPsk's."""

    index: int
    psk: PreSharedKey


@dataclass(frozen=True, slots=True)
class SealTickets:
    """Wanted: tickets that hold these states and open for `entry` only; to be answered with as many (tuple of bytes),
    or fewer or none, which are issued in order."""

    entry: str
    states: tuple[bytes, ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class ClaimEarlyData:
    """Wanted: whether early data with this id (a PSK binder) was never claimed before by any server that opens the same
    tickets, since the beginning of the window of RFC 8446 section 8.3; to be answered with False on any doubt."""

    id: bytes


@dataclass(frozen=True, slots=True)
class EarlyDataOffered:
    """A client: early data may be sent, that many bytes of `alpn`, under the key that comes next; over QUIC within the
    limits that the server had the last time (those that RFC 9000 section 7.4.1 lets a client remember)."""

    max_size: int
    alpn: bytes | None
    transport_parameters: bytes


@dataclass(frozen=True, slots=True)
class EarlyDataAccepted:
    """A client: the server takes it. A server: it comes next, that many bytes of content at most; over records until
    an EndOfEarlyData."""

    max_size: int


@dataclass(frozen=True, slots=True)
class EarlyDataRefused:
    """A client: what was sent of it is lost. What a server hears of it is SkipEarlyData."""


@dataclass(frozen=True, slots=True)
class NewSession:
    """A client, after Complete: what to keep (`ticket.Session`, encoded) for a later handshake with that server."""

    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class ReceiveMessage:
    """Wanted: the peer's next handshake message, at the level that is being received."""


@dataclass(frozen=True, slots=True)
class Complete:
    """The handshake is done and both Finished are right.

    group: None after psk_ke, which has no (EC)DHE. peer_chain: DER, empty if the peer showed no certificate, in this
    handshake or in the one whose session was resumed. psk_identity: of the external PSK that both used.
    early_data: whether the server took some.
    """

    cipher_suite: CipherSuite
    group: NamedGroup | None
    signature_scheme: SignatureScheme | None  # the server's
    alpn: bytes | None
    server_name: str | None
    entry: str
    exporter: Exporter = field(compare=False)
    peer_chain: tuple[bytes, ...] = ()
    psk_identity: bytes | None = None
    resumed: bool = False
    early_data: bool = False


Question = Sign | FindPsk | SealTickets | ClaimEarlyData
"""What the driver answers: a signature; a FoundPsk or None; a tuple of tickets; True or False."""

Answer = bytes | FoundPsk | tuple[bytes, ...] | bool | None

Output = (
    SendMessage
    | InstallSecret
    | PeerTransportParameters
    | PeerRecordSizeLimit
    | SkipEarlyData
    | Selected
    | EarlyDataOffered
    | EarlyDataAccepted
    | EarlyDataRefused
    | Question
    | Complete
    | NewSession
)
"""What a driver gets to see."""

Event = Output | ReceiveMessage
"""What a handshake yields to the engine."""
