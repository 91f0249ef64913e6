"""What a handshake is told beforehand, and the small types that its events share.

Decisions that need knowledge of the world come in as functions: they are plain and quick, do no I/O, and refuse with
PeerError.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, IntEnum, StrEnum
from os import urandom

from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes

from quic_tlshd.tls.compression import COMPRESSION_ALGORITHMS
from quic_tlshd.tls.extensions import Extensions
from quic_tlshd.tls.iana import (
    CertificateCompressionAlgorithm,
    CipherSuite,
    HandshakeType,
    NamedGroup,
    PskKeyExchangeMode,
    SignatureScheme,
)
from quic_tlshd.tls.key_exchange import KeyPair, generate
from quic_tlshd.tls.ticket import Session


class Level(IntEnum):
    """Encryption level (RFC 9001 section 4.1.4), numbered as the kernel's QUIC_CRYPTO_* are."""

    APP = 0
    INITIAL = 1
    HANDSHAKE = 2
    EARLY = 3


class Direction(Enum):
    """Which way a secret protects, seen from us."""

    SEND = "send"
    RECEIVE = "receive"


class ClientCertificate(StrEnum):
    """A server's wish: send no CertificateRequest, take what comes, or refuse an empty answer."""

    NONE = "none"
    REQUEST = "request"
    REQUIRE = "require"


DEFAULT_CIPHER_SUITES = (
    CipherSuite.TLS_AES_128_GCM_SHA256,
    CipherSuite.TLS_AES_256_GCM_SHA384,
    CipherSuite.TLS_CHACHA20_POLY1305_SHA256,
    CipherSuite.TLS_AES_128_CCM_SHA256,
)
DEFAULT_GROUPS = (
    NamedGroup.X25519MLKEM768,
    NamedGroup.SECP256R1MLKEM768,
    NamedGroup.SECP384R1MLKEM1024,
    NamedGroup.X25519,
    NamedGroup.SECP256R1,
    NamedGroup.X448,
    NamedGroup.SECP384R1,
    NamedGroup.SECP521R1,
)
"""All that we have; those that a quantum computer can't undo come first."""
DEFAULT_SIGNATURE_SCHEMES = (
    SignatureScheme.ECDSA_SECP256R1_SHA256,
    SignatureScheme.ED25519,
    SignatureScheme.ECDSA_SECP384R1_SHA384,
    SignatureScheme.ECDSA_SECP521R1_SHA512,
    SignatureScheme.ED448,
    SignatureScheme.MLDSA44,
    SignatureScheme.MLDSA65,
    SignatureScheme.MLDSA87,
    SignatureScheme.RSA_PSS_RSAE_SHA256,
    SignatureScheme.RSA_PSS_RSAE_SHA384,
    SignatureScheme.RSA_PSS_RSAE_SHA512,
    SignatureScheme.RSA_PSS_PSS_SHA256,
    SignatureScheme.RSA_PSS_PSS_SHA384,
    SignatureScheme.RSA_PSS_PSS_SHA512,
    SignatureScheme.RSA_PKCS1_SHA256,
    SignatureScheme.RSA_PKCS1_SHA384,
    SignatureScheme.RSA_PKCS1_SHA512,
)
"""For signature_algorithms. The PKCS #1 schemes are here for peers that don't know signature_algorithms_cert and look
for their chain's signatures among these (RFC 8446 section 4.2.3); in a CertificateVerify `signature.verify` refuses
them."""

CERTIFICATE_SIGNATURE_SCHEMES = tuple(
    [scheme for scheme in DEFAULT_SIGNATURE_SCHEMES if not scheme.name.startswith("RSA_PSS_PSS")]
)
"""For signature_algorithms_cert: what certificates may be signed with. With an issuer that has an id-RSASSA-PSS key no
path can be verified."""

DEFAULT_TICKET_LIFETIME = 7200
EARLY_DATA_WINDOW = 10.0
"""Seconds by which the age of a ticket may seem wrong for early data to be taken (RFC 8446 section 8.3)."""

VerifyChain = Callable[[tuple[bytes, ...], tuple[bytes, ...]], CertificatePublicKeyTypes]
"""Verifies a peer's chain (DER, the end certificate first, never empty), with the OCSP responses (DER) for its members,
empty where there is none and () if there are none at all. Gives the end certificate's public key; PeerError names the
alert if it does not verify."""

Arrange = Callable[[HandshakeType | str, Extensions], Extensions]
"""The last word on an extension block that we send, but for GREASE, given the message it is for: to permute a
ClientHello, to replay a trace. It sees a second ClientHello with the block of the first, arranged as it was, and what
the retry changes in it."""


def as_they_are(_place: HandshakeType | str, extensions: Extensions) -> Extensions:
    return extensions


@dataclass(frozen=True)
class CertificateChain:
    """A certificate that we can show, without its key.

    id: what the holder of the key knows it by.
    chain: DER, the end certificate first, the root left out.
    schemes: what its key can sign in TLS 1.3, the preferred one first.
    signed_with: the schemes of the chain's own signatures. issuers: the names (DER) of its members' issuers.
    ocsp_response: to staple to the end certificate if the peer wants one, DER, or empty.
    """

    id: str
    chain: tuple[bytes, ...]
    schemes: tuple[SignatureScheme, ...]
    signed_with: tuple[int, ...] = ()
    issuers: tuple[bytes, ...] = ()
    ocsp_response: bytes = b""


@dataclass(frozen=True, slots=True)
class Psk:
    """An external pre-shared key. identity: as the ClientHello has it. hash_name: the hash that the key is for, sha256
    where nothing else is agreed (RFC 8446 section 4.2.11)."""

    identity: bytes
    key: bytes = field(repr=False)
    hash_name: str = "sha256"


PreSharedKey = Psk | Session


def no_clock() -> float:
    raise ValueError("sessions need a clock")


@dataclass(frozen=True, slots=True)
class ServerChoice:
    """What a server does for the ClientHello it was asked about.

    entry: the registry entry's name. alpn: the protocol to select, None to answer without the extension.
    certificates: the first that the client can verify is shown; none if only a PSK will do.
    verify_client: needed unless client_certificate is NONE. certificate_authorities: the names (DER) of those that it
    takes certificates of, to help a client choose; empty to say nothing.
    signature_schemes, certificate_signature_schemes: that we take from the client, in its CertificateVerify and in its
    chain; the second may be empty, to say nothing. compression: of both sides' Certificate messages.
    tickets: how many to issue; with 0, none is accepted either. ticket_lifetime: in seconds, at most MAX_LIFETIME.
    max_early_data: bytes of early data to accept, 0 for none; over QUIC just whether (RFC 9001 section 4.6.1).
    """

    entry: str
    alpn: bytes | None
    certificates: tuple[CertificateChain, ...]
    client_certificate: ClientCertificate = ClientCertificate.NONE
    verify_client: VerifyChain | None = None
    cipher_suites: tuple[CipherSuite, ...] = DEFAULT_CIPHER_SUITES
    groups: tuple[NamedGroup, ...] = DEFAULT_GROUPS
    signature_schemes: tuple[SignatureScheme, ...] = DEFAULT_SIGNATURE_SCHEMES
    certificate_signature_schemes: tuple[SignatureScheme, ...] = CERTIFICATE_SIGNATURE_SCHEMES
    certificate_authorities: tuple[bytes, ...] = ()
    compression: tuple[CertificateCompressionAlgorithm, ...] = COMPRESSION_ALGORITHMS
    tickets: int = 0
    ticket_lifetime: int = DEFAULT_TICKET_LIFETIME
    max_early_data: int = 0

    def __post_init__(self) -> None:
        if self.client_certificate is not ClientCertificate.NONE and self.verify_client is None:
            raise ValueError("a client certificate is wanted, but there is no verify_client")


@dataclass(frozen=True, slots=True)
class ServerParameters:
    """choose: from the client's server name (lower case, None if it sent none) and ALPN list (empty if it sent none)
    to the choice; it refuses with PeerError(unrecognized_name | no_application_protocol).
    transport_parameters: ours over QUIC, None elsewhere: over QUIC the client must send its own, elsewhere it must not.
    record_size_limit: the largest record that we take (RFC 8449), None if what the peer takes can't be heeded.
    find_psk: whether external PSKs are taken (see `events.FindPsk`).
    now: seconds since the epoch; needed for sessions only. random: gives that many random bytes. generate: gives a
    fresh key pair of a group (replaced to replay a trace)."""

    choose: Callable[[str | None, tuple[bytes, ...]], ServerChoice]
    transport_parameters: bytes | None = None
    record_size_limit: int | None = None
    find_psk: bool = False
    now: Callable[[], float] = no_clock
    random: Callable[[int], bytes] = urandom
    generate: Callable[[NamedGroup], KeyPair] = generate
    arrange: Arrange = as_they_are


@dataclass(frozen=True, slots=True)
class ClientParameters:
    """server_name: sent as SNI; None when the peer is known by address only.
    verify_server: knows itself which name or address the chain must be for; None if only a PSK will do.
    psks: external ones to offer, in order of preference. psk_modes: how they and sessions may be used.
    session: to resume if it still can be. tickets: whether to ask for some, which give `events.NewSession`.
    early_data: whether to offer it, if the session allows it. status_request: whether to ask for OCSP responses.
    certificates: what we may show if asked, empty for none. key_shares: the groups to send a share for at once.
    compatibility_mode: send a legacy_session_id (RFC 8446 appendix D.4; never over QUIC, RFC 9001 section 8.4).
    grease: send code points that mean nothing (RFC 8701).
    For the rest see ServerParameters and ServerChoice."""

    entry: str
    verify_server: VerifyChain | None
    server_name: str | None = None
    alpn: tuple[bytes, ...] = ()
    certificates: tuple[CertificateChain, ...] = ()
    transport_parameters: bytes | None = None
    cipher_suites: tuple[CipherSuite, ...] = DEFAULT_CIPHER_SUITES
    groups: tuple[NamedGroup, ...] = DEFAULT_GROUPS
    key_shares: tuple[NamedGroup, ...] = (NamedGroup.X25519,)
    compatibility_mode: bool = False
    grease: bool = True
    record_size_limit: int | None = None
    psks: tuple[Psk, ...] = ()
    psk_modes: tuple[PskKeyExchangeMode, ...] = (PskKeyExchangeMode.PSK_DHE_KE,)
    signature_schemes: tuple[SignatureScheme, ...] = DEFAULT_SIGNATURE_SCHEMES
    certificate_signature_schemes: tuple[SignatureScheme, ...] = CERTIFICATE_SIGNATURE_SCHEMES
    compression: tuple[CertificateCompressionAlgorithm, ...] = COMPRESSION_ALGORITHMS
    status_request: bool = True
    session: Session | None = None
    tickets: bool = False
    early_data: bool = False
    now: Callable[[], float] = no_clock
    random: Callable[[int], bytes] = urandom
    generate: Callable[[NamedGroup], KeyPair] = generate
    arrange: Arrange = as_they_are
