"""CertificateVerify: what is signed, and which key signs it how (RFC 8446 sections 4.2.3 and 4.4.3, and for ML-DSA
draft-ietf-tls-mldsa)."""

from __future__ import annotations

import re
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, mldsa, padding, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.x509.oid import PublicKeyAlgorithmOID

from quic_tlshd.tls.alert import AlertDescription, PeerError
from quic_tlshd.tls.iana import SignatureScheme as S

PrivateKey = (
    ec.EllipticCurvePrivateKey
    | ed25519.Ed25519PrivateKey
    | ed448.Ed448PrivateKey
    | mldsa.MLDSA44PrivateKey
    | mldsa.MLDSA65PrivateKey
    | mldsa.MLDSA87PrivateKey
    | rsa.RSAPrivateKey
)

_BY_CURVE = {
    "secp256r1": (S.ECDSA_SECP256R1_SHA256,),
    "secp384r1": (S.ECDSA_SECP384R1_SHA384,),
    "secp521r1": (S.ECDSA_SECP521R1_SHA512,),
}
_BY_TYPE: tuple[tuple[type, tuple[S, ...]], ...] = (
    (ed25519.Ed25519PublicKey, (S.ED25519,)),
    (ed448.Ed448PublicKey, (S.ED448,)),
    (mldsa.MLDSA44PublicKey, (S.MLDSA44,)),
    (mldsa.MLDSA65PublicKey, (S.MLDSA65,)),
    (mldsa.MLDSA87PublicKey, (S.MLDSA87,)),
)
_RSAE = (S.RSA_PSS_RSAE_SHA256, S.RSA_PSS_RSAE_SHA384, S.RSA_PSS_RSAE_SHA512)
_PSS = (S.RSA_PSS_PSS_SHA256, S.RSA_PSS_PSS_SHA384, S.RSA_PSS_PSS_SHA512)


def _pss(digest: hashes.HashAlgorithm) -> tuple[padding.PSS, hashes.HashAlgorithm]:
    return padding.PSS(padding.MGF1(digest), padding.PSS.DIGEST_LENGTH), digest


_ARGUMENTS: dict[int, tuple[Any, ...]] = {
    S.ECDSA_SECP256R1_SHA256: (ec.ECDSA(hashes.SHA256()),),
    S.ECDSA_SECP384R1_SHA384: (ec.ECDSA(hashes.SHA384()),),
    S.ECDSA_SECP521R1_SHA512: (ec.ECDSA(hashes.SHA512()),),
    **dict.fromkeys((S.RSA_PSS_RSAE_SHA256, S.RSA_PSS_PSS_SHA256), _pss(hashes.SHA256())),
    **dict.fromkeys((S.RSA_PSS_RSAE_SHA384, S.RSA_PSS_PSS_SHA384), _pss(hashes.SHA384())),
    **dict.fromkeys((S.RSA_PSS_RSAE_SHA512, S.RSA_PSS_PSS_SHA512), _pss(hashes.SHA512())),
}
"""What `sign` and `verify` of a key want to know besides the content: nothing if the key says it all."""

_SERVER_CONTEXT = b" " * 64 + b"TLS 1.3, server CertificateVerify\0"
_CLIENT_CONTEXT = b" " * 64 + b"TLS 1.3, client CertificateVerify\0"


def certificate_verify_content(transcript_hash: bytes, *, server: bool) -> bytes:
    """The content that a CertificateVerify signs; `server`: whether the signer is one."""
    return (_SERVER_CONTEXT if server else _CLIENT_CONTEXT) + transcript_hash


def schemes_of(public_key: Any, pss: tuple[S, ...] = ()) -> tuple[S, ...]:
    """What the key can sign in TLS 1.3, the preferred scheme first; () for a key that TLS 1.3 has no use for.

    pss: what its certificate says of it if it is an id-RSASSA-PSS key, see `pss_schemes`.
    """
    if isinstance(public_key, ec.EllipticCurvePublicKey):
        return _BY_CURVE.get(public_key.curve.name, ())
    if isinstance(public_key, rsa.RSAPublicKey):
        return pss or _RSAE
    return next((schemes for kind, schemes in _BY_TYPE if isinstance(public_key, kind)), ())


# An id-RSASSA-PSS key whose parameters (RFC 4055 section 3.1) name id-sha256, -384 or -512. Where the same parameters
# are those of the certificate's own signature, no key (a BIT STRING) follows them.
_PSS_HASH = re.compile(
    rb"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0a\x30.\xa0.\x30.\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02([\1-\3])"
    rb".{0,48}?\x03\x82..\x00\x30\x82",
    re.DOTALL,
)


def pss_schemes(certificate: x509.Certificate) -> tuple[S, ...]:
    """What a key that is for RSASSA-PSS alone (RFC 4055 section 1.2) can sign: all three, or that which its parameters
    name (RFC 8446 section 4.2.3); () for any other key. The key object doesn't tell."""
    if certificate.public_key_algorithm_oid != PublicKeyAlgorithmOID.RSASSA_PSS:
        return ()
    match = _PSS_HASH.search(certificate.tbs_certificate_bytes)
    return _PSS if match is None else (_PSS[match[1][0] - 1],)


def sign(private_key: PrivateKey, scheme: S, content: bytes) -> bytes:
    """ValueError if no key of that type signs with that scheme."""
    if scheme not in schemes_of(private_key.public_key(), _PSS if scheme in _PSS else ()):
        raise ValueError(f"this key can't sign {scheme.name.lower()}")
    signature: bytes = private_key.sign(content, *_ARGUMENTS.get(scheme, ()))
    return signature


def verify(
    public_key: CertificatePublicKeyTypes, scheme: int, signature: bytes, content: bytes, pss: tuple[S, ...] = ()
) -> None:
    """illegal_parameter if the scheme is not for that key, decrypt_error if the signature is wrong."""
    if scheme not in schemes_of(public_key, pss):
        raise PeerError(
            AlertDescription.ILLEGAL_PARAMETER, f"signature scheme {scheme:#06x} is not for the certificate's key"
        )
    try:
        public_key.verify(signature, content, *_ARGUMENTS.get(scheme, ()))  # type: ignore[union-attr]  # so says schemes_of
    except InvalidSignature:
        raise PeerError(AlertDescription.DECRYPT_ERROR, "the CertificateVerify's signature is wrong") from None
