"""CertificateVerify: what is signed, and which key signs it how (RFC 8446 sections 4.2.3 and 4.4.3)."""

from __future__ import annotations

from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes

from quic_tlshd.tls.alert import AlertDescription, PeerError
from quic_tlshd.tls.iana import SignatureScheme as S

PrivateKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey

_ECDSA: dict[S, tuple[str, ec.ECDSA]] = {
    S.ECDSA_SECP256R1_SHA256: ("secp256r1", ec.ECDSA(hashes.SHA256())),
    S.ECDSA_SECP384R1_SHA384: ("secp384r1", ec.ECDSA(hashes.SHA384())),
    S.ECDSA_SECP521R1_SHA512: ("secp521r1", ec.ECDSA(hashes.SHA512())),
}
# rsa_pss_pss_* is for keys with the OID id-RSASSA-PSS, which cryptography does not tell from rsaEncryption: left out.
_RSA_PSS: dict[S, tuple[padding.PSS, hashes.HashAlgorithm]] = {
    scheme: (padding.PSS(padding.MGF1(digest), padding.PSS.DIGEST_LENGTH), digest)
    for scheme, digest in (
        (S.RSA_PSS_RSAE_SHA256, hashes.SHA256()),
        (S.RSA_PSS_RSAE_SHA384, hashes.SHA384()),
        (S.RSA_PSS_RSAE_SHA512, hashes.SHA512()),
    )
}

_SERVER_CONTEXT = b" " * 64 + b"TLS 1.3, server CertificateVerify\0"
_CLIENT_CONTEXT = b" " * 64 + b"TLS 1.3, client CertificateVerify\0"


def certificate_verify_content(transcript_hash: bytes, *, server: bool) -> bytes:
    """The content that a CertificateVerify signs; `server`: whether the signer is one."""
    return (_SERVER_CONTEXT if server else _CLIENT_CONTEXT) + transcript_hash


def schemes_of(public_key: Any) -> tuple[S, ...]:
    """What the key can sign in TLS 1.3, the preferred scheme first; () for a key that TLS 1.3 has no use for."""
    if isinstance(public_key, ec.EllipticCurvePublicKey):
        return tuple(scheme for scheme, (curve, _) in _ECDSA.items() if curve == public_key.curve.name)
    if isinstance(public_key, ed25519.Ed25519PublicKey):
        return (S.ED25519,)
    if isinstance(public_key, rsa.RSAPublicKey):
        return tuple(_RSA_PSS)
    return ()


def sign(private_key: PrivateKey, scheme: S, content: bytes) -> bytes:
    """ValueError if the key can't sign with that scheme."""
    if scheme not in schemes_of(private_key.public_key()):
        raise ValueError(f"this key can't sign {scheme.name.lower()}")
    if isinstance(private_key, ec.EllipticCurvePrivateKey):
        return private_key.sign(content, _ECDSA[scheme][1])
    if isinstance(private_key, ed25519.Ed25519PrivateKey):
        return private_key.sign(content)
    pss, digest = _RSA_PSS[scheme]
    return private_key.sign(content, pss, digest)


def verify(public_key: CertificatePublicKeyTypes, scheme: int, signature: bytes, content: bytes) -> None:
    """illegal_parameter if the scheme is not for that key, decrypt_error if the signature is wrong."""
    try:
        if isinstance(public_key, ec.EllipticCurvePublicKey) and scheme in _ECDSA:
            curve, algorithm = _ECDSA[S(scheme)]
            if curve == public_key.curve.name:
                return public_key.verify(signature, content, algorithm)
        elif isinstance(public_key, ed25519.Ed25519PublicKey) and scheme == S.ED25519:
            return public_key.verify(signature, content)
        elif isinstance(public_key, rsa.RSAPublicKey) and scheme in _RSA_PSS:
            pss, digest = _RSA_PSS[S(scheme)]
            return public_key.verify(signature, content, pss, digest)
    except InvalidSignature:
        raise PeerError(AlertDescription.DECRYPT_ERROR, "the CertificateVerify's signature is wrong") from None
    raise PeerError(
        AlertDescription.ILLEGAL_PARAMETER, f"signature scheme {scheme:#06x} is not for the certificate's key"
    )
