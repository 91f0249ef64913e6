"""What monitor and worker both need to know of a certificate."""

from __future__ import annotations

from collections.abc import Callable

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes

from quic_tlshd.policy.text import quoted
from quic_tlshd.tls.alert import AlertDescription, PeerError
from quic_tlshd.tls.signature import schemes_of

MINIMUM_RSA_BITS = 2048
MAXIMUM_RSA_BITS = 8192  # a larger key would only buy the peer our time
SIGNATURE_HASHES = hashes.SHA256 | hashes.SHA384 | hashes.SHA512 | None
"""What a certificate may be signed by; None: EdDSA and ML-DSA have their own."""
MAXIMUM_EXPONENT_BITS = 33  # as above: with one as long as the key, to verify takes as long as to sign


def decode(data: bytes, load: Callable[[bytes], x509.Certificate]) -> x509.Certificate:
    """A certificate, decoded down to what else is decoded on first use only; ValueError if it can't be."""
    try:
        certificate = load(data)
        _ = certificate.extensions, certificate.subject, certificate.issuer
    except Exception as error:  # noqa: BLE001 -- nine kinds at least, TypeError among them, and warnings taken for errors
        raise ValueError(type(error).__name__) from None
    return certificate


def public_key_of(certificate: x509.Certificate) -> CertificatePublicKeyTypes:
    """The certificate's key, if it is strong enough to be believed and no larger than others need; PeerError if not.

    A type or curve that TLS has no signature scheme for makes it a certificate "of an unsupported type"; a short RSA
    key is a fault of this very certificate (RFC 8446 section 6.2). insufficient_security is for negotiations.
    """
    try:
        key = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        reason = f"the key of {subject_text(certificate)} is of an unknown type"
        raise PeerError(AlertDescription.UNSUPPORTED_CERTIFICATE, reason) from None
    fault = None
    if isinstance(key, rsa.RSAPublicKey):
        if not MINIMUM_RSA_BITS <= key.key_size <= MAXIMUM_RSA_BITS:
            fault = f"{key.key_size} bits, not {MINIMUM_RSA_BITS} to {MAXIMUM_RSA_BITS}"
        elif (exponent := key.public_numbers().e).bit_length() > MAXIMUM_EXPONENT_BITS:
            fault = f"a public exponent of {exponent.bit_length()} bits, more than {MAXIMUM_EXPONENT_BITS}"
    if fault is not None:
        reason = f"the RSA key of {subject_text(certificate)} has {fault}"
        raise PeerError(AlertDescription.BAD_CERTIFICATE, reason)
    if not schemes_of(key):
        what = f"curve {key.curve.name}" if isinstance(key, ec.EllipticCurvePublicKey) else type(key).__name__
        reason = f"no signature scheme is for the key of {subject_text(certificate)} ({what})"
        raise PeerError(AlertDescription.UNSUPPORTED_CERTIFICATE, reason)
    return key


def is_signed_by_broken_hash(certificate: x509.Certificate) -> bool:
    """Whether its signature is over MD5 or SHA-1, by which nothing may be verified (RFC 8446 section 4.4.2.4)."""
    try:
        digest = certificate.signature_hash_algorithm
    except UnsupportedAlgorithm:
        return False
    return isinstance(digest, hashes.MD5 | hashes.SHA1)


def is_issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Whether the issuer's name and key fit the certificate and its signature. What the issuer may do is not asked."""
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def key_text(certificate: x509.Certificate) -> str:
    """What kind of key it has, and of which size where that is open: ``RSA 2048``, ``secp256r1``, ``Ed25519``."""
    key = certificate.public_key()
    if isinstance(key, ec.EllipticCurvePublicKey):
        return key.curve.name
    kind = type(key).__name__.removesuffix("PublicKey")
    return f"{kind} {key.key_size}" if isinstance(key, rsa.RSAPublicKey) else kind


def subject_text(certificate: x509.Certificate) -> str:
    """The subject, quoted and cut: a peer's certificate may hold anything."""
    return quoted(certificate.subject.rfc4514_string())


def issuer_text(certificate: x509.Certificate) -> str:
    """The issuer, see subject_text."""
    return quoted(certificate.issuer.rfc4514_string())
