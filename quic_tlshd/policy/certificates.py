"""What monitor and worker both need to know of a certificate."""

from __future__ import annotations

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

from quic_tlshd.policy.text import quoted

MINIMUM_RSA_BITS = 2048
MAXIMUM_RSA_BITS = 8192  # a larger key would only buy the peer our time
MAXIMUM_CURVE_BITS = 521  # as above


def is_issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Whether the issuer's name and key fit the certificate and its signature. What the issuer may do is not asked."""
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def subject_text(certificate: x509.Certificate) -> str:
    """The subject, quoted and cut: a peer's certificate may hold anything."""
    return quoted(certificate.subject.rfc4514_string())


def issuer_text(certificate: x509.Certificate) -> str:
    """The issuer, see subject_text."""
    return quoted(certificate.issuer.rfc4514_string())
