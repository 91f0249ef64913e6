"""Certificate paths that cryptography.x509.verification does not take, put so that it can judge them.

It refuses issuers' keys that the Web PKI has not (Ed25519, Ed448, RSA for PSS alone), constraints on directory names,
and certificates of version 1, which private authorities are known to have and to issue; no policy changes that. So such
a path's signatures are verified here, and then it gets the same certificates, each as it is but for its key and
signature, which are on P-256, for the constraints on directory names, which are the business of `name_constraints`, and
for the version. As each copy has a key of its own, there is no path in them but the one that was verified.
"""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from typing import Annotated

from cryptography import x509
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import PublicKeyAlgorithmOID

from quic_tlshd.policy.certificates import SIGNATURE_HASHES, is_issued_by
from quic_tlshd.policy.name_constraints import without_directory_names
from quic_tlshd.policy.paths import Path

_REFUSED = (PublicKeyAlgorithmOID.ED25519, PublicKeyAlgorithmOID.ED448, PublicKeyAlgorithmOID.RSASSA_PSS)
_SIGNATURE = ec.ECDSA(hashes.SHA256())
_ECDSA_WITH_SHA256 = bytes.fromhex("300a06082a8648ce3d040302")  # AlgorithmIdentifier, RFC 5758 section 3.2
_VERSION_3 = bytes.fromhex("a003020102")


@asn1.sequence
class _Extension:
    extn_id: x509.ObjectIdentifier
    critical: Annotated[bool, asn1.Default(False)]
    extn_value: bytes


@asn1.sequence
class _TBSCertificate:
    """RFC 5280 section 4.1, of version 3 and without the unique identifiers that no one uses."""

    version: asn1.TLV
    serial_number: asn1.TLV
    signature: asn1.TLV
    issuer: asn1.TLV
    validity: asn1.TLV
    subject: asn1.TLV
    subject_public_key_info: asn1.TLV
    extensions: Annotated[list[_Extension], asn1.Explicit(3)]


@asn1.sequence
class _TBSCertificateOfVersion1:
    serial_number: asn1.TLV
    signature: asn1.TLV
    issuer: asn1.TLV
    validity: asn1.TLV
    subject: asn1.TLV
    subject_public_key_info: asn1.TLV


@asn1.sequence
class _Certificate:
    tbs_certificate: _TBSCertificate
    signature_algorithm: asn1.TLV
    signature_value: asn1.BitString


def is_refused(path: Path) -> bool:
    """Whether the verifier would refuse the path for what its certificates are, directory names aside."""
    return any(issuer.public_key_algorithm_oid in _REFUSED for issuer in path[1:]) or any(
        certificate.version is x509.Version.v1 for certificate in path
    )


def transcribe(path: Path) -> Path:
    """The path in the verifier's terms, the end certificate with its own key; ValueError for a wrong signature, a weak
    one, or an issuer of version 1 that is no root.

    Nothing in a certificate of version 1 says that it is an authority's: of a trusted root it is believed.
    """
    for certificate, issuer in pairwise(path):
        if not (
            is_issued_by(certificate, issuer) and isinstance(certificate.signature_hash_algorithm, SIGNATURE_HASHES)
        ):
            raise ValueError("a signature on the path does not verify")
    last = len(path) - 1
    for position, issuer in enumerate(path[1:], 1):
        is_root = position == last and issuer.subject == issuer.issuer
        if issuer.version is x509.Version.v1 and not is_root:
            raise ValueError("an issuer of version 1 is no root")
    return tuple(
        _copy(certificate, _key(position) if position else None, _key(min(position + 1, last)))
        for position, certificate in enumerate(path)
    )


@cache
def _key(position: int) -> ec.EllipticCurvePrivateKey:
    """The key of the copy at that place of any path."""
    return ec.generate_private_key(ec.SECP256R1())


def _copy(
    certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey | None, signer: ec.EllipticCurvePrivateKey
) -> x509.Certificate:
    tbs = _decode(certificate, ca=key is not None)
    algorithm = asn1.decode_der(asn1.TLV, _ECDSA_WITH_SHA256)
    tbs.signature = algorithm
    if key is not None:
        spki = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        tbs.subject_public_key_info = asn1.decode_der(asn1.TLV, spki)
    tbs.extensions = [kept for extension in tbs.extensions if (kept := _transcribe(extension, certificate)) is not None]
    signature = asn1.BitString(signer.sign(asn1.encode_der(tbs), _SIGNATURE), 0)
    copy = _Certificate(tbs_certificate=tbs, signature_algorithm=algorithm, signature_value=signature)
    return x509.load_der_x509_certificate(asn1.encode_der(copy))


def _decode(certificate: x509.Certificate, *, ca: bool) -> _TBSCertificate:
    """What is signed of a certificate; of one of version 1 what it would be in version 3."""
    data = certificate.tbs_certificate_bytes
    if certificate.version is not x509.Version.v1:
        return asn1.decode_der(_TBSCertificate, data)
    old = asn1.decode_der(_TBSCertificateOfVersion1, data)
    constraints = x509.BasicConstraints(ca, None)
    return _TBSCertificate(
        version=asn1.decode_der(asn1.TLV, _VERSION_3),
        serial_number=old.serial_number,
        signature=old.signature,
        issuer=old.issuer,
        validity=old.validity,
        subject=old.subject,
        subject_public_key_info=old.subject_public_key_info,
        extensions=[_Extension(extn_id=constraints.oid, critical=True, extn_value=constraints.public_bytes())],
    )


def _transcribe(extension: _Extension, certificate: x509.Certificate) -> _Extension | None:
    """The extension, None for constraints on nothing but directory names."""
    if extension.extn_id != x509.NameConstraints.oid:
        return extension
    constraints = without_directory_names(certificate.extensions.get_extension_for_class(x509.NameConstraints).value)
    if constraints is None:
        return None
    return _Extension(extn_id=extension.extn_id, critical=extension.critical, extn_value=constraints.public_bytes())
