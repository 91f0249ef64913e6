"""Which certificate to show: what the peer says of those that it takes, and the choice among ours (RFC 8446 sections
4.4.2.2 and 4.4.2.3)."""

from __future__ import annotations

from dataclasses import dataclass

from quic_tlshd.tls.extensions import (
    Extensions,
    decode_certificate_authorities,
    decode_compress_certificate,
    decode_status_request,
    decode_uint16_list,
)
from quic_tlshd.tls.iana import ExtensionType as X
from quic_tlshd.tls.iana import SignatureScheme
from quic_tlshd.tls.parameters import CertificateChain


@dataclass(frozen=True, slots=True)
class Criteria:
    """What a ClientHello or a CertificateRequest says of certificates; numbers may be unknown.

    signature_algorithms: for the CertificateVerify, empty if the peer wants to see no certificate.
    signature_algorithms_cert: for the chain's own signatures, the same unless the peer has said so (section 4.2.3).
    certificate_authorities: DER names, empty for any (section 4.2.4).
    compress_certificate: what the Certificate message may be compressed with (RFC 8879 section 3).
    status_request: whether an OCSP response is wanted with it (section 4.4.2.1).
    """

    signature_algorithms: tuple[int, ...]
    signature_algorithms_cert: tuple[int, ...]
    certificate_authorities: tuple[bytes, ...] = ()
    compress_certificate: tuple[int, ...] = ()
    status_request: bool = False


def read_criteria(extensions: Extensions, *, from_server: bool) -> Criteria:
    body = extensions.get(X.SIGNATURE_ALGORITHMS)
    algorithms = for_certificates = () if body is None else decode_uint16_list(body, "signature_algorithms")
    body = extensions.get(X.SIGNATURE_ALGORITHMS_CERT)
    if body is not None:
        for_certificates = decode_uint16_list(body, "signature_algorithms_cert")
    body = extensions.get(X.CERTIFICATE_AUTHORITIES)
    authorities = () if body is None else decode_certificate_authorities(body)
    body = extensions.get(X.COMPRESS_CERTIFICATE)
    compression = () if body is None else decode_compress_certificate(body)
    body = extensions.get(X.STATUS_REQUEST)
    # A server's has nothing in it (RFC 8446 section 4.4.2.1), or nothing that we need.
    status_request = body is not None and (from_server or decode_status_request(body))
    return Criteria(algorithms, for_certificates, authorities, compression, status_request)


def choose_certificate(
    certificates: tuple[CertificateChain, ...], criteria: Criteria
) -> tuple[CertificateChain, SignatureScheme] | None:
    """The first of our certificates whose key has a scheme that the peer takes, and that scheme.

    One whose chain the peer can verify too comes before others, and then one from an authority that it named; if none
    is so, the peer may still know better what to do with what it gets.
    """
    usable = [
        (certificate, scheme)
        for certificate in certificates
        for scheme in [next((each for each in certificate.schemes if each in criteria.signature_algorithms), None)]
        if scheme is not None
    ]
    if len(usable) < 2:
        return usable[0] if usable else None
    return max(usable, key=lambda candidate: _fit(candidate[0], criteria))


def _fit(certificate: CertificateChain, criteria: Criteria) -> tuple[bool, bool]:
    """Whether the peer can verify the chain's signatures, and whether it has named an authority of it."""
    authorities = criteria.certificate_authorities
    return (
        all(scheme in criteria.signature_algorithms_cert for scheme in certificate.signed_with),
        not authorities or any(issuer in authorities for issuer in certificate.issuers),
    )
