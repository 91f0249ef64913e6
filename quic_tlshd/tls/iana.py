"""Code points of the IANA registries "TLS Parameters" and "TLS ExtensionType Values", by their IANA names.

A peer may name any number: what is decoded stays a plain `int` and is compared with these members, so that an unknown
code point is nothing special.
"""

from __future__ import annotations

from enum import IntEnum

SSL_3_0 = 0x0300
TLS_1_2 = 0x0303  # legacy_version
TLS_1_3 = 0x0304
TLS_FALLBACK_SCSV = 0x5600  # among cipher suites, RFC 7507


class HandshakeType(IntEnum):
    """HandshakeType, RFC 8446 section 4."""

    CLIENT_HELLO = 1
    SERVER_HELLO = 2
    NEW_SESSION_TICKET = 4
    END_OF_EARLY_DATA = 5
    ENCRYPTED_EXTENSIONS = 8
    CERTIFICATE = 11
    CERTIFICATE_REQUEST = 13
    CERTIFICATE_VERIFY = 15
    FINISHED = 20
    KEY_UPDATE = 24
    COMPRESSED_CERTIFICATE = 25
    MESSAGE_HASH = 254


class ExtensionType(IntEnum):
    """ExtensionType, RFC 8446 section 4.2 and the RFCs in the registry."""

    SERVER_NAME = 0
    MAX_FRAGMENT_LENGTH = 1
    STATUS_REQUEST = 5
    SUPPORTED_GROUPS = 10
    SIGNATURE_ALGORITHMS = 13
    APPLICATION_LAYER_PROTOCOL_NEGOTIATION = 16
    SIGNED_CERTIFICATE_TIMESTAMP = 18
    PADDING = 21
    COMPRESS_CERTIFICATE = 27
    RECORD_SIZE_LIMIT = 28
    PRE_SHARED_KEY = 41
    EARLY_DATA = 42
    SUPPORTED_VERSIONS = 43
    COOKIE = 44
    PSK_KEY_EXCHANGE_MODES = 45
    CERTIFICATE_AUTHORITIES = 47
    OID_FILTERS = 48
    POST_HANDSHAKE_AUTH = 49
    SIGNATURE_ALGORITHMS_CERT = 50
    KEY_SHARE = 51
    QUIC_TRANSPORT_PARAMETERS = 57  # RFC 9001 section 8.2


class CipherSuite(IntEnum):
    """CipherSuite, RFC 8446 appendix B.4."""

    TLS_AES_128_GCM_SHA256 = 0x1301
    TLS_AES_256_GCM_SHA384 = 0x1302
    TLS_CHACHA20_POLY1305_SHA256 = 0x1303
    TLS_AES_128_CCM_SHA256 = 0x1304

    @property
    def hash(self) -> str:
        """The suite's hash, by hashlib's name."""
        return "sha384" if self is CipherSuite.TLS_AES_256_GCM_SHA384 else "sha256"


class NamedGroup(IntEnum):
    """NamedGroup, RFC 8446 section 4.2.7; the hybrids are draft-ietf-tls-ecdhe-mlkem's."""

    SECP256R1 = 0x0017
    SECP384R1 = 0x0018
    SECP521R1 = 0x0019
    X25519 = 0x001D
    X448 = 0x001E
    SECP256R1MLKEM768 = 0x11EB
    X25519MLKEM768 = 0x11EC
    SECP384R1MLKEM1024 = 0x11ED


class CertificateCompressionAlgorithm(IntEnum):
    """CertificateCompressionAlgorithm, RFC 8879 section 3."""

    ZLIB = 1
    BROTLI = 2
    ZSTD = 3


class PskKeyExchangeMode(IntEnum):
    """PskKeyExchangeMode, RFC 8446 section 4.2.9."""

    PSK_KE = 0
    PSK_DHE_KE = 1


class SignatureScheme(IntEnum):
    """SignatureScheme, RFC 8446 section 4.2.3; MLDSA* are draft-ietf-tls-mldsa's."""

    RSA_PKCS1_SHA256 = 0x0401
    RSA_PKCS1_SHA384 = 0x0501
    RSA_PKCS1_SHA512 = 0x0601
    ECDSA_SECP256R1_SHA256 = 0x0403
    ECDSA_SECP384R1_SHA384 = 0x0503
    ECDSA_SECP521R1_SHA512 = 0x0603
    RSA_PSS_RSAE_SHA256 = 0x0804
    RSA_PSS_RSAE_SHA384 = 0x0805
    RSA_PSS_RSAE_SHA512 = 0x0806
    ED25519 = 0x0807
    ED448 = 0x0808
    RSA_PSS_PSS_SHA256 = 0x0809
    RSA_PSS_PSS_SHA384 = 0x080A
    RSA_PSS_PSS_SHA512 = 0x080B
    MLDSA44 = 0x0904
    MLDSA65 = 0x0905
    MLDSA87 = 0x0906
