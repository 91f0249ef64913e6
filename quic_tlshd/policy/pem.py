"""Certificates and revocation lists in PEM files (RFC 7468), read block by block so that a bad one spoils no other."""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.utils import CryptographyDeprecationWarning

from quic_tlshd.policy.certificates import decode
from quic_tlshd.policy.files import read_regular

MAXIMUM_FILE = 1 << 24  # bytes; the system's store has 200 thousand

_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)
_CRL = re.compile(rb"-----BEGIN X509 CRL-----.*?-----END X509 CRL-----", re.DOTALL)


class FileError(Exception):
    """A file that can't be used: which and why. The reason quotes nothing of its content."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Bundle:
    """What a file of certificates holds, and a sentence for each member that had to be left out."""

    certificates: tuple[x509.Certificate, ...]
    skipped: tuple[str, ...]


def load_bundle(path: Path) -> Bundle:
    """Load every certificate that parses; FileError if the file can't be read or has none."""
    certificates, skipped = [], []
    for number, block in enumerate(_CERTIFICATE.findall(_read(path)), 1):
        try:
            certificates.append(_load_certificate(block))
        except ValueError:
            skipped.append(f"{path}: certificate {number} can't be parsed and is left out")
    if not certificates:
        raise FileError(path, "holds no PEM certificate")
    return Bundle(tuple(certificates), tuple(skipped))


def load_trusted(path: Path, now: datetime) -> Bundle:
    """Load a trust store: a bundle without the members that have expired."""
    bundle = load_bundle(path)
    expired = [certificate for certificate in bundle.certificates if certificate.not_valid_after_utc < now]
    skipped = bundle.skipped
    if expired:
        names = "; ".join(
            f"{certificate.subject.rfc4514_string()} on {certificate.not_valid_after_utc:%Y-%m-%d}"
            for certificate in expired
        )
        skipped += (f"{path}: left out, for they have expired: {names}",)
    return Bundle(
        tuple(certificate for certificate in bundle.certificates if certificate not in expired),
        skipped,
    )


def load_crls(path: Path) -> tuple[x509.CertificateRevocationList, ...]:
    """Load every CRL of a PEM file, or the one of a DER file.

    FileError if one can't be used: to leave it out would let the revoked in.
    """
    data = _read(path)
    blocks = _CRL.findall(data)
    if not blocks:
        try:
            blocks = [x509.load_der_x509_crl(data).public_bytes(Encoding.PEM)]
        except ValueError:
            raise FileError(path, "holds no revocation list, neither in PEM (X509 CRL) nor in DER") from None
    return tuple(_load_crl(path, number, block) for number, block in enumerate(blocks, 1))


def _load_crl(path: Path, number: int, block: bytes) -> x509.CertificateRevocationList:
    try:
        crl = x509.load_pem_x509_crl(block)
        fault = _crl_fault(crl)
    except Exception:  # noqa: BLE001 -- see certificates.decode
        fault = "can't be parsed"
    if fault is not None:
        raise FileError(path, f"revocation list {number} {fault}")
    return crl


def _crl_fault(crl: x509.CertificateRevocationList) -> str | None:
    """Why its serial numbers alone don't tell what is revoked (RFC 5280 section 5.2), None if they do.

    It may be for a part of an issuer's certificates only, or for some reasons: what it names is revoked all the same.
    """
    for extension in crl.extensions:
        if isinstance(extension.value, x509.DeltaCRLIndicator):
            return "is a delta list, which can't be used without its base: use a complete one"
        if isinstance(extension.value, x509.IssuingDistributionPoint):
            if extension.value.indirect_crl:
                return "is an indirect list, with certificates of several issuers: use one of each issuer"
            if extension.value.only_contains_attribute_certs:
                return "is for attribute certificates only"
        elif extension.critical:
            return f"has a critical extension that is not known ({extension.oid.dotted_string})"
    return None


def der(member: x509.Certificate | x509.CertificateRevocationList) -> bytes:
    """The member as it is signed."""
    return member.public_bytes(Encoding.DER)


def _load_certificate(block: bytes) -> x509.Certificate:
    with warnings.catch_warnings():
        # Roots with the serial number 0 are in use and load until the library refuses them; then they are left out.
        warnings.simplefilter("ignore", CryptographyDeprecationWarning)
        return decode(block, x509.load_pem_x509_certificate)


def _read(path: Path) -> bytes:
    try:
        return read_regular(path, MAXIMUM_FILE)
    except OSError as error:
        raise FileError(path, error.strerror or type(error).__name__) from None
