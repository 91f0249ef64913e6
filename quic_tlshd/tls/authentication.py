"""Authentication, RFC 8446 section 4.4, which is the same for both roles: Certificate, CertificateVerify, Finished."""

from __future__ import annotations

from collections.abc import Generator
from functools import lru_cache
from hmac import compare_digest
from typing import Any

from cryptography import x509

from quic_tlshd.tls.alert import AlertDescription, PeerError
from quic_tlshd.tls.compression import decompress
from quic_tlshd.tls.engine import receive
from quic_tlshd.tls.events import Event
from quic_tlshd.tls.extensions import decode_certificate_status, encode_certificate_status
from quic_tlshd.tls.iana import CertificateCompressionAlgorithm, HandshakeType, SignatureScheme
from quic_tlshd.tls.iana import ExtensionType as X
from quic_tlshd.tls.key_schedule import finished_verify_data
from quic_tlshd.tls.messages import Certificate, CertificateEntry, CertificateVerify, Finished
from quic_tlshd.tls.parameters import CertificateChain, VerifyChain
from quic_tlshd.tls.signature import certificate_verify_content, pss_schemes, verify
from quic_tlshd.tls.transcript import Transcript

CERTIFICATE_TYPES = (HandshakeType.CERTIFICATE, HandshakeType.COMPRESSED_CERTIFICATE)
"""What may come where a Certificate is due."""


@lru_cache(maxsize=256)
def certificate_message(certificate: CertificateChain, *, stapled: bool) -> bytes:
    """Our Certificate message: encoded once for every chain. stapled: with the OCSP response, if there is one."""
    entries = [CertificateEntry(der) for der in certificate.chain]
    if stapled and certificate.ocsp_response:
        status = encode_certificate_status(certificate.ocsp_response)
        entries[0] = CertificateEntry(certificate.chain[0], {X.STATUS_REQUEST: status})
    return Certificate(tuple(entries)).encode()


def receive_authentication(
    message: bytes,
    transcript: Transcript,
    verify_chain: VerifyChain,
    schemes: tuple[SignatureScheme, ...],
    compression: tuple[CertificateCompressionAlgorithm, ...],
    *,
    from_server: bool,
    required: bool = True,
    status_request: bool = False,
) -> Generator[Event, Any, tuple[tuple[bytes, ...], SignatureScheme | None]]:
    """The peer's Certificate, which is `message`, and its CertificateVerify: the verified chain (DER) and the scheme.

    `schemes`, `compression`, `status_request`: what we said we take. A client that need not show a certificate
    (`required`) may answer with none: ((), None).
    """
    transcript.add(message)
    if message[0] == HandshakeType.COMPRESSED_CERTIFICATE:
        message = decompress(message, compression)
    certificate = Certificate.decode(message)
    if certificate.certificate_request_context:
        raise PeerError(AlertDescription.ILLEGAL_PARAMETER, "certificate_request_context is not empty")
    ocsp_responses = _read_responses(certificate, status_request=status_request)
    chain = certificate.chain
    if not chain:
        if from_server:
            raise PeerError(AlertDescription.DECODE_ERROR, "the server shows no certificate")
        if required:
            raise PeerError(AlertDescription.CERTIFICATE_REQUIRED, "the client shows no certificate")
        return (), None
    public_key = verify_chain(chain, ocsp_responses)

    message = yield from receive(HandshakeType.CERTIFICATE_VERIFY)
    certificate_verify = CertificateVerify.decode(message)
    if certificate_verify.algorithm not in schemes:
        raise PeerError(
            AlertDescription.ILLEGAL_PARAMETER,
            f"signature scheme {certificate_verify.algorithm:#06x} was not offered",
        )
    content = certificate_verify_content(transcript.digest(), server=from_server)
    pss = pss_schemes(x509.load_der_x509_certificate(chain[0]))  # which has just been verified
    verify(public_key, certificate_verify.algorithm, certificate_verify.signature, content, pss)
    transcript.add(message)
    return chain, SignatureScheme(certificate_verify.algorithm)


def _read_responses(certificate: Certificate, *, status_request: bool) -> tuple[bytes, ...]:
    """The OCSP responses of the certificates, in their order; () if there are none."""
    responses = []
    for entry in certificate.certificate_list:
        if any(kind != X.STATUS_REQUEST or not status_request for kind in entry.extensions):
            reason = "a certificate has an extension that was not asked for"
            raise PeerError(AlertDescription.UNSUPPORTED_EXTENSION, reason)
        body = entry.extensions.get(X.STATUS_REQUEST)
        responses.append(b"" if body is None else decode_certificate_status(body))
    return tuple(responses) if any(responses) else ()


def receive_finished(transcript: Transcript, base_key: bytes) -> Generator[Event, Any, None]:
    """The peer's Finished; `base_key` is its handshake traffic secret."""
    message = yield from receive(HandshakeType.FINISHED)
    expected = finished_verify_data(transcript.hash_name, base_key, transcript.digest())
    if not compare_digest(Finished.decode(message, len(expected)).verify_data, expected):
        raise PeerError(AlertDescription.DECRYPT_ERROR, "the Finished is wrong")
    transcript.add(message)
