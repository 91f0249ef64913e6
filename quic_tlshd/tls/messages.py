"""The handshake messages of RFC 8446, section 4: one frozen record each, encode beside decode.

`decode` takes a whole message, header included, as the engine has reassembled it; `encode` gives one.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from quic_tlshd.tls.alert import AlertDescription, PeerError
from quic_tlshd.tls.codec import (
    decode_error,
    read_exactly,
    read_uint16s,
    read_vector,
    uint16,
    uint16s,
    vector8,
    vector16,
    vector24,
)
from quic_tlshd.tls.extensions import (
    HELLO_RETRY_REQUEST,
    Extensions,
    decode_extensions,
    encode_extensions,
)
from quic_tlshd.tls.iana import TLS_1_2, ExtensionType, HandshakeType

HELLO_RETRY_REQUEST_RANDOM = bytes.fromhex("cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c")
"""RFC 8446 section 4.1.3: SHA-256 of "HelloRetryRequest"."""

MAX_SESSION_ID = 32


def encode_message(kind: HandshakeType, body: bytes) -> bytes:
    return kind.to_bytes(1, "big") + len(body).to_bytes(3, "big") + body


@dataclass(frozen=True, slots=True)
class ClientHello:
    """RFC 8446 section 4.1.2; cipher_suites as numbers, known or not."""

    random: bytes
    legacy_session_id: bytes
    cipher_suites: tuple[int, ...]
    extensions: Extensions
    legacy_version: int = TLS_1_2
    legacy_compression_methods: bytes = b"\0"

    def encode(self) -> bytes:
        body = b"".join(
            (
                uint16(self.legacy_version),
                self.random,
                vector8(self.legacy_session_id),
                vector16(uint16s(self.cipher_suites)),
                vector8(self.legacy_compression_methods),
                encode_extensions(self.extensions),
            )
        )
        return encode_message(HandshakeType.CLIENT_HELLO, body)

    @classmethod
    def decode(cls, message: bytes) -> ClientHello:
        """A hello without extensions (TLS 1.2 allows it) decodes too: what is wrong is its version."""
        random = message[6:38]
        if len(random) != 32:
            raise decode_error("the ClientHello is cut short")
        session_id, at = read_vector(message, 38, 1, "legacy_session_id")
        if len(session_id) > MAX_SESSION_ID:
            raise decode_error("legacy_session_id is longer than 32 bytes")
        suites, at = read_vector(message, at, 2, "cipher_suites", 2)
        compression, at = read_vector(message, at, 1, "legacy_compression_methods", 1)
        extensions = decode_extensions(message, at, HandshakeType.CLIENT_HELLO) if at < len(message) else {}
        # "The pre_shared_key extension MUST be the last extension in the ClientHello" (section 4.2.11).
        if ExtensionType.PRE_SHARED_KEY in extensions and next(reversed(extensions)) != ExtensionType.PRE_SHARED_KEY:
            raise PeerError(AlertDescription.ILLEGAL_PARAMETER, "pre_shared_key is not the last extension")
        return cls(
            random,
            session_id,
            read_uint16s(suites, "cipher_suites"),
            extensions,
            int.from_bytes(message[4:6], "big"),
            compression,
        )


@dataclass(frozen=True, slots=True)
class ServerHello:
    """RFC 8446 section 4.1.3; a HelloRetryRequest (4.1.4) is one with that special random."""

    random: bytes
    legacy_session_id_echo: bytes
    cipher_suite: int
    extensions: Extensions
    legacy_version: int = TLS_1_2
    legacy_compression_method: int = 0

    @property
    def is_hello_retry_request(self) -> bool:
        return self.random == HELLO_RETRY_REQUEST_RANDOM

    def encode(self) -> bytes:
        body = b"".join(
            (
                uint16(self.legacy_version),
                self.random,
                vector8(self.legacy_session_id_echo),
                uint16(self.cipher_suite),
                self.legacy_compression_method.to_bytes(1, "big"),
                encode_extensions(self.extensions),
            )
        )
        return encode_message(HandshakeType.SERVER_HELLO, body)

    @classmethod
    def decode(cls, message: bytes) -> ServerHello:
        random = message[6:38]
        session_id, at = read_vector(message, 38, 1, "legacy_session_id_echo")
        rest = message[at : at + 3]
        if len(session_id) > MAX_SESSION_ID or len(rest) != 3:
            raise decode_error("the ServerHello is cut short or its session id too long")
        place = HELLO_RETRY_REQUEST if random == HELLO_RETRY_REQUEST_RANDOM else HandshakeType.SERVER_HELLO
        # TLS 1.2 allows a hello without extensions; it is refused for its version, not for its form.
        extensions = decode_extensions(message, at + 3, place) if at + 3 < len(message) else {}
        version = int.from_bytes(message[4:6], "big")
        return cls(random, session_id, int.from_bytes(rest[:2], "big"), extensions, version, rest[2])


@dataclass(frozen=True, slots=True)
class EncryptedExtensions:
    """RFC 8446 section 4.3.1."""

    extensions: Extensions

    def encode(self) -> bytes:
        return encode_message(HandshakeType.ENCRYPTED_EXTENSIONS, encode_extensions(self.extensions))

    @classmethod
    def decode(cls, message: bytes) -> EncryptedExtensions:
        return cls(decode_extensions(message, 4, HandshakeType.ENCRYPTED_EXTENSIONS))


@dataclass(frozen=True, slots=True)
class CertificateRequest:
    """RFC 8446 section 4.3.2."""

    extensions: Extensions
    certificate_request_context: bytes = b""

    def encode(self) -> bytes:
        body = vector8(self.certificate_request_context) + encode_extensions(self.extensions)
        return encode_message(HandshakeType.CERTIFICATE_REQUEST, body)

    @classmethod
    def decode(cls, message: bytes) -> CertificateRequest:
        context, at = read_vector(message, 4, 1, "certificate_request_context")
        return cls(decode_extensions(message, at, HandshakeType.CERTIFICATE_REQUEST), context)


@dataclass(frozen=True, slots=True)
class CertificateEntry:
    """One certificate (DER) and its extensions."""

    cert_data: bytes
    extensions: Extensions = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Certificate:
    """RFC 8446 section 4.4.2."""

    certificate_list: tuple[CertificateEntry, ...]
    certificate_request_context: bytes = b""

    @property
    def chain(self) -> tuple[bytes, ...]:
        return tuple([entry.cert_data for entry in self.certificate_list])

    def encode(self) -> bytes:
        entries = [vector24(entry.cert_data) + encode_extensions(entry.extensions) for entry in self.certificate_list]
        body = vector8(self.certificate_request_context) + vector24(b"".join(entries))
        return encode_message(HandshakeType.CERTIFICATE, body)

    @classmethod
    def decode(cls, message: bytes) -> Certificate:
        context, at = read_vector(message, 4, 1, "certificate_request_context")
        listed = read_exactly(message[at:], 3, "the certificate list")
        entries = []
        at = 0
        while at < len(listed):
            cert_data, at = read_vector(listed, at, 3, "a certificate", 1)
            block, end = read_vector(listed, at, 2, "a certificate's extensions")
            extensions = decode_extensions(listed[at:end], 0, HandshakeType.CERTIFICATE) if block else {}
            entries.append(CertificateEntry(cert_data, extensions))
            at = end
        return cls(tuple(entries), context)


@dataclass(frozen=True, slots=True)
class CertificateVerify:
    """RFC 8446 section 4.4.3; algorithm is a SignatureScheme's number."""

    algorithm: int
    signature: bytes

    def encode(self) -> bytes:
        return encode_message(HandshakeType.CERTIFICATE_VERIFY, uint16(self.algorithm) + vector16(self.signature))

    @classmethod
    def decode(cls, message: bytes) -> CertificateVerify:
        if len(message) < 6:
            raise decode_error("the CertificateVerify is cut short")
        return cls(int.from_bytes(message[4:6], "big"), read_exactly(message[6:], 2, "the signature"))


@dataclass(frozen=True, slots=True)
class Finished:
    """RFC 8446 section 4.4.4."""

    verify_data: bytes

    def encode(self) -> bytes:
        return encode_message(HandshakeType.FINISHED, self.verify_data)

    @classmethod
    def decode(cls, message: bytes, length: int) -> Finished:
        """`length`: of the negotiated hash."""
        if len(message) != 4 + length:
            raise decode_error("the Finished has the wrong length")
        return cls(message[4:])


@dataclass(frozen=True, slots=True)
class EndOfEarlyData:
    """RFC 8446 section 4.5."""

    def encode(self) -> bytes:
        return encode_message(HandshakeType.END_OF_EARLY_DATA, b"")

    @classmethod
    def decode(cls, message: bytes) -> EndOfEarlyData:
        if len(message) != 4:
            raise decode_error("the EndOfEarlyData is not empty")
        return cls()


@dataclass(frozen=True, slots=True)
class NewSessionTicket:
    """RFC 8446 section 4.6.1; lifetime in seconds."""

    ticket_lifetime: int
    ticket_age_add: int
    ticket_nonce: bytes
    ticket: bytes
    extensions: Extensions

    def encode(self) -> bytes:
        body = b"".join(
            (
                self.ticket_lifetime.to_bytes(4, "big"),
                self.ticket_age_add.to_bytes(4, "big"),
                vector8(self.ticket_nonce),
                vector16(self.ticket),
                encode_extensions(self.extensions),
            )
        )
        return encode_message(HandshakeType.NEW_SESSION_TICKET, body)

    @classmethod
    def decode(cls, message: bytes) -> NewSessionTicket:
        if len(message) < 12:
            raise decode_error("the NewSessionTicket is cut short")
        nonce, at = read_vector(message, 12, 1, "ticket_nonce")
        ticket, at = read_vector(message, at, 2, "the ticket", 1)
        extensions = decode_extensions(message, at, HandshakeType.NEW_SESSION_TICKET)
        return cls(int.from_bytes(message[4:8], "big"), int.from_bytes(message[8:12], "big"), nonce, ticket, extensions)


@dataclass(frozen=True, slots=True)
class KeyUpdate:
    """RFC 8446 section 4.6.3. update_requested: the receiver shall send one too, before more application data."""

    update_requested: bool

    def encode(self) -> bytes:
        return encode_message(HandshakeType.KEY_UPDATE, bytes((self.update_requested,)))

    @classmethod
    def decode(cls, message: bytes) -> KeyUpdate:
        if len(message) != 5:
            raise decode_error("the KeyUpdate has the wrong length")
        if message[4] > 1:
            raise PeerError(AlertDescription.ILLEGAL_PARAMETER, f"request_update is {message[4]}")
        return cls(bool(message[4]))
