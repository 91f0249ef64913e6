"""Certificates with anything in them, right or wrong; what a test doesn't ask for is as RFC 5280 has it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from tests.peers import pki

NOW = datetime.now(UTC).replace(microsecond=0)
DAY = timedelta(days=1)

Extension = tuple[x509.ExtensionType, bool]
"""An extension and whether it is critical."""


@dataclass(frozen=True)
class Crafted:
    """A certificate and its key."""

    certificate: x509.Certificate
    key: Any

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)


def name(text: str) -> x509.Name:
    """A common name alone, none for an empty text."""
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)] if text else [])


def craft(
    subject: str | x509.Name,
    issuer: Crafted | None = None,
    *,
    ca: bool | None = False,
    path_length: int | None = None,
    key: Any = "p256",
    public_key: Any = None,
    names: Iterable[str | x509.GeneralName] | None = None,
    usage: str | None = None,
    key_usage: tuple[str, ...] | None = ("digital_signature",),
    since: datetime = NOW - DAY,
    until: datetime = NOW + 30 * DAY,
    extensions: Iterable[Extension] = (),
    without: tuple[type[x509.ExtensionType], ...] = (),
    signed: hashes.HashAlgorithm | None = None,
    pss: bool = False,
    issuer_name: str | x509.Name | None = None,
    serial: int | None = None,
) -> Crafted:
    """A certificate by `issuer`, or by itself.

    ca: None for no basicConstraints. public_key: instead of the key's own. names: of subjectAltName; by default an end
    certificate has its subject's. usage: see pki.USAGES; by default an end certificate's is for both. key_usage: what
    an end certificate's key is for.
    """
    private_key = pki.generate_key(key) if isinstance(key, str) else key
    signer = private_key if issuer is None else issuer.key
    subject_name = name(subject) if isinstance(subject, str) else subject
    if issuer_name is None:
        issuer_name = subject_name if issuer is None else issuer.certificate.subject
    public_key = public_key or private_key.public_key()
    ski = x509.SubjectKeyIdentifier.from_public_key(public_key)
    aki = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())
    wanted: list[Extension] = [(ski, False), (aki, False)]
    if ca is not None:
        wanted.append((x509.BasicConstraints(ca, path_length), True))
    if ca:
        wanted.append((key_usage_of(("key_cert_sign", "crl_sign")), True))
    else:
        wanted += [(key_usage_of(key_usage), True)] if key_usage is not None else []
        wanted.append((x509.ExtendedKeyUsage(pki.USAGES[usage or "both"]), False))
        if names is None and isinstance(subject, str):
            names = (subject,)
    if ca and usage is not None:
        wanted.append((x509.ExtendedKeyUsage(pki.USAGES[usage]), False))
    if names is not None:
        general = [pki.general_name(each) if isinstance(each, str) else each for each in names]
        wanted.append((x509.SubjectAlternativeName(general), not len(subject_name.rdns)))
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject_name)
        .issuer_name(name(issuer_name) if isinstance(issuer_name, str) else issuer_name)
        .public_key(public_key)
        .serial_number(serial or x509.random_serial_number())
        .not_valid_before(since)
        .not_valid_after(until)
    )
    given = tuple(extensions)
    replaced = (*without, *(type(each) for each, _ in given))
    for extension, critical in (*[each for each in wanted if not isinstance(each[0], replaced)], *given):
        builder = builder.add_extension(extension, critical)
    algorithm = signed or (
        hashes.SHA256() if isinstance(signer, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) else None
    )
    if pss:
        digest = algorithm or hashes.SHA256()
        scheme = padding.PSS(padding.MGF1(digest), padding.PSS.DIGEST_LENGTH)
        return Crafted(builder.sign(signer, algorithm, rsa_padding=scheme), private_key)
    return Crafted(builder.sign(signer, algorithm), private_key)


def key_usage_of(bits: tuple[str, ...]) -> x509.KeyUsage:
    every = (
        "digital_signature",
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "key_cert_sign",
        "crl_sign",
        "encipher_only",
        "decipher_only",
    )
    return x509.KeyUsage(**{bit: bit in bits for bit in every})


@asn1.sequence
class _Certificate:
    tbs_certificate: asn1.TLV
    signature_algorithm: asn1.TLV
    signature_value: asn1.BitString


_RSA_WITH = {  # RFC 3279 section 2.2.1
    "md5": (hashes.MD5(), bytes.fromhex("300d06092a864886f70d0101040500")),
    "sha1": (hashes.SHA1(), bytes.fromhex("300d06092a864886f70d0101050500")),
}


def signed_by_broken_hash(certificate: Crafted, signer: rsa.RSAPrivateKey, which: str) -> Crafted:
    """The certificate, which is signed with RSA and SHA-256, signed with MD5 or SHA-1 instead."""
    algorithm, oid = _RSA_WITH[which]
    sha256 = bytes.fromhex("300d06092a864886f70d01010b0500")
    tbs = certificate.certificate.tbs_certificate_bytes.replace(sha256, oid, 1)
    digest = hashes.Hash(algorithm)
    digest.update(tbs)
    signature = signer.sign(digest.finalize(), padding.PKCS1v15(), Prehashed(algorithm))
    der = asn1.encode_der(
        _Certificate(
            tbs_certificate=asn1.decode_der(asn1.TLV, tbs),
            signature_algorithm=asn1.decode_der(asn1.TLV, oid),
            signature_value=asn1.BitString(signature, 0),
        )
    )
    return Crafted(x509.load_der_x509_certificate(der), certificate.key)


@asn1.sequence
class _TBSCertificate:
    version: asn1.TLV
    serial_number: asn1.TLV
    signature: asn1.TLV
    issuer: asn1.TLV
    validity: asn1.TLV
    subject: asn1.TLV
    subject_public_key_info: asn1.TLV
    extensions: asn1.TLV


@asn1.sequence
class _TBSCertificateOfVersion1:
    serial_number: asn1.TLV
    signature: asn1.TLV
    issuer: asn1.TLV
    validity: asn1.TLV
    subject: asn1.TLV
    subject_public_key_info: asn1.TLV


def of_version_1(certificate: Crafted, signer: Crafted | None = None) -> Crafted:
    """The certificate, signed on P-256, as `openssl x509 -req` without -extfile made it for long: with no extension."""
    new = asn1.decode_der(_TBSCertificate, certificate.certificate.tbs_certificate_bytes)
    names = _TBSCertificateOfVersion1.__annotations__
    tbs = _TBSCertificateOfVersion1(**{name: getattr(new, name) for name in names})
    signature = (signer or certificate).key.sign(asn1.encode_der(tbs), ec.ECDSA(hashes.SHA256()))
    der = asn1.encode_der(
        _Certificate(
            tbs_certificate=asn1.decode_der(asn1.TLV, asn1.encode_der(tbs)),
            signature_algorithm=new.signature,
            signature_value=asn1.BitString(signature, 0),
        )
    )
    return Crafted(x509.load_der_x509_certificate(der), certificate.key)
