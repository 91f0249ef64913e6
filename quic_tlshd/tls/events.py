"""What a handshake wants done, in the order in which it must be done.

A driver *applies* each event. Three of them ask for something: `ReceiveMessage` (the engine answers that one itself),
and `Sign` and `FindPsk`, which the driver answers, as late as it likes.
"""

from __future__ import annotations

from dataclasses import dataclass

from quic_tlshd.tls.iana import CipherSuite, NamedGroup, SignatureScheme
from quic_tlshd.tls.parameters import CertificateChain, Direction, Level, Psk


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
    """Wanted: the key of one of the PSK identities that the client offers (RFC 8446 section 4.2.11), the first that we
    know; to be answered with a FoundPsk, or None."""

    identities: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class FoundPsk:
    """The answer to FindPsk. index: of the identity among FindPsk's."""

    index: int
    psk: Psk


@dataclass(frozen=True, slots=True)
class ReceiveMessage:
    """Wanted: the peer's next handshake message, at the level that is being received."""


@dataclass(frozen=True, slots=True)
class Complete:
    """The handshake is done and both Finished are right.

    group: None after psk_ke, which has no (EC)DHE. peer_chain: DER, empty if the peer showed no certificate.
    psk_identity: of the PSK that both used.
    """

    cipher_suite: CipherSuite
    group: NamedGroup | None
    signature_scheme: SignatureScheme | None  # the server's
    alpn: bytes | None
    server_name: str | None
    entry: str
    peer_chain: tuple[bytes, ...] = ()
    psk_identity: bytes | None = None


Output = (
    SendMessage
    | InstallSecret
    | PeerTransportParameters
    | PeerRecordSizeLimit
    | SkipEarlyData
    | Selected
    | Sign
    | FindPsk
    | Complete
)
"""What a driver gets to see."""

Event = Output | ReceiveMessage
"""What a handshake yields to the engine."""
