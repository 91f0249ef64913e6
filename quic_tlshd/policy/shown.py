"""What a handshake has to know of a chain that we show: what its key signs, and what peers may ask of it."""

from __future__ import annotations

from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ObjectIdentifier, SignatureAlgorithmOID

from quic_tlshd.policy.pem import der
from quic_tlshd.tls.iana import SignatureScheme as S
from quic_tlshd.tls.parameters import CertificateChain
from quic_tlshd.tls.signature import pss_schemes, schemes_of

# Of ECDSA the certificate tells the hash alone; the curve is its issuer's, whom we need not have.
_SCHEMES: dict[ObjectIdentifier, S] = {
    SignatureAlgorithmOID.ECDSA_WITH_SHA256: S.ECDSA_SECP256R1_SHA256,
    SignatureAlgorithmOID.ECDSA_WITH_SHA384: S.ECDSA_SECP384R1_SHA384,
    SignatureAlgorithmOID.ECDSA_WITH_SHA512: S.ECDSA_SECP521R1_SHA512,
    SignatureAlgorithmOID.ED25519: S.ED25519,
    SignatureAlgorithmOID.ED448: S.ED448,
    SignatureAlgorithmOID.ML_DSA_44: S.MLDSA44,
    SignatureAlgorithmOID.ML_DSA_65: S.MLDSA65,
    SignatureAlgorithmOID.ML_DSA_87: S.MLDSA87,
    SignatureAlgorithmOID.RSA_WITH_SHA256: S.RSA_PKCS1_SHA256,
    SignatureAlgorithmOID.RSA_WITH_SHA384: S.RSA_PKCS1_SHA384,
    SignatureAlgorithmOID.RSA_WITH_SHA512: S.RSA_PKCS1_SHA512,
}
_PSS: dict[str, S] = {
    "sha256": S.RSA_PSS_RSAE_SHA256,
    "sha384": S.RSA_PSS_RSAE_SHA384,
    "sha512": S.RSA_PSS_RSAE_SHA512,
}
_BROKEN = (
    SignatureAlgorithmOID.RSA_WITH_MD5,
    SignatureAlgorithmOID.RSA_WITH_SHA1,
    SignatureAlgorithmOID.ECDSA_WITH_SHA1,
    SignatureAlgorithmOID.DSA_WITH_SHA1,
)
_NO_SCHEME = 0  # which nobody takes


def certificate_chain(chain: tuple[x509.Certificate, ...], public_key: Any) -> CertificateChain:
    """The chain, the end certificate first, with that certificate's key. ValueError if peers must not be shown it: RFC
    8446 section 4.4.2.2 forbids keys that may not sign, by their keyUsage, and signatures by a broken hash."""
    end = chain[0]
    for member in chain:
        if member.signature_algorithm_oid in _BROKEN and member.subject != member.issuer:
            raise ValueError("a signature in its chain is by MD5 or SHA-1, which TLS 1.3 does not allow")
    usage = _key_usage(end)
    if usage is not None and not usage.digital_signature:
        raise ValueError("its keyUsage lacks digitalSignature, which TLS 1.3 needs")
    return CertificateChain(
        id=end.fingerprint(hashes.SHA256()).hex(),
        chain=tuple(map(der, chain)),
        schemes=schemes_of(public_key, pss_schemes(end)),
        # Peers don't look at the signature of a certificate that is its own issuer (section 4.4.2.2).
        signed_with=tuple(dict.fromkeys(_signed_with(member) for member in chain if member.subject != member.issuer)),
        issuers=tuple(dict.fromkeys(member.issuer.public_bytes() for member in chain)),
    )


def _key_usage(certificate: x509.Certificate) -> x509.KeyUsage | None:
    try:
        return certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        return None
    except (x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        raise ValueError("its extensions can't be read") from None


def _signed_with(certificate: x509.Certificate) -> int:
    if certificate.signature_algorithm_oid == SignatureAlgorithmOID.RSASSA_PSS:
        try:
            digest = certificate.signature_hash_algorithm
        except UnsupportedAlgorithm:
            return _NO_SCHEME
        return _NO_SCHEME if digest is None else _PSS.get(digest.name, _NO_SCHEME)
    return _SCHEMES.get(certificate.signature_algorithm_oid, _NO_SCHEME)
