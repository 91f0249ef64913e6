"""Certificates with their private keys, from PEM files and tokens. Only the monitor imports this.

Nothing that is raised or warned of here quotes a file's content.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import Enum
from functools import lru_cache
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from quic_tlshd.policy.certificates import MINIMUM_RSA_BITS, is_issued_by, public_key_of
from quic_tlshd.policy.files import open_regular
from quic_tlshd.policy.pem import FileError, load_bundle
from quic_tlshd.policy.pkcs11_url import TokenUrl
from quic_tlshd.policy.private_key import load_der, load_pem
from quic_tlshd.policy.shown import certificate_chain
from quic_tlshd.policy.token import TokenKey
from quic_tlshd.tls.alert import PeerError
from quic_tlshd.tls.iana import SignatureScheme
from quic_tlshd.tls.parameters import CertificateChain
from quic_tlshd.tls.signature import PrivateKey, schemes_of, sign

SAFE_MODES = (0o400, 0o600, 0o640)
_UNSUPPORTED = "the private key's type is not supported; use ECDSA, Ed25519, Ed448, ML-DSA or RSA"
MAXIMUM_KEY_FILE = 1 << 20  # bytes; a key with its chain has a few thousand


class CredentialError(FileError):
    """A certificate or key that can't be used: which file and why."""


class Pace(Enum):
    """How long a key takes to sign: tens of microseconds, up to milliseconds, or as long as a token likes."""

    QUICK = "quick"
    SLOW = "slow"
    ANY = "any"


@dataclass(frozen=True, slots=True)
class Credential:
    """What we show (`chain`, the only part that leaves this process) and what signs for it.

    issuer: of the certificate, where its file has it. warnings: what works but deserves a look; out_of_date: members of
    the chain that peers will refuse for their dates.
    """

    chain: CertificateChain
    private_key: PrivateKey | TokenKey = field(repr=False)
    certificate: x509.Certificate
    issuer: x509.Certificate | None = None
    warnings: tuple[str, ...] = ()
    out_of_date: tuple[str, ...] = ()

    @property
    def pace(self) -> Pace:
        if isinstance(self.private_key, TokenKey):
            return Pace.ANY
        is_quick = isinstance(self.private_key, ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey)
        return Pace.QUICK if is_quick else Pace.SLOW

    def sign(self, scheme: SignatureScheme, content: bytes) -> bytes:
        """ValueError if the key can't sign with that scheme, TokenError if its token can't be used now."""
        if isinstance(self.private_key, TokenKey):
            return self.private_key.sign(scheme, content)
        return sign(self.private_key, scheme, content)


def load_credential(certificate: Path, private_key: Path | TokenUrl, now: datetime | None = None) -> Credential:
    """Load a chain and the key of its end certificate; both may be in one file. CredentialError if they don't fit,
    TokenError if the key's token can't be used.

    The end certificate is the one that is for the key; what the file has beyond its issuers is left out, and so is the
    root. A certificate that is out of date still loads: the clock may be wrong, and it is the peer's judgement.
    """
    key = TokenKey(private_key) if isinstance(private_key, TokenUrl) else _load_key(private_key)
    certificates = _load_certificates(certificate)
    end = next((candidate for candidate in certificates if _is_for(candidate, key)), None)
    if end is None:
        raise CredentialError(certificate, f"holds no certificate for the key in {private_key}")
    chain = order_chain(end, certificates)
    try:
        shown = certificate_chain(chain, public_key_of(end))
    except ValueError as error:
        raise CredentialError(certificate, str(error)) from None
    except PeerError as error:
        raise CredentialError(certificate, error.reason) from None
    if isinstance(key, TokenKey):
        shown = replace(shown, schemes=key.schemes_for(end))
    warnings: tuple[str, ...] = ()
    if chain != certificates[: len(chain)]:
        warnings = (f"{certificate}: the chain is out of order; it is sent in order",)
    elif any(not _is_self_issued(rest) for rest in certificates[len(chain) :]):
        warnings = (f"{certificate}: some certificates do not belong to the chain; they are not sent",)
    out_of_date = _out_of_date(certificate, chain, now or datetime.now(UTC))
    issuer = next((each for each in certificates if each != end and is_issued_by(end, each)), None)
    return Credential(shown, key, end, issuer, warnings, out_of_date)


@lru_cache(maxsize=16)
def credential_from_der(certificate: bytes, private_key: bytes) -> Credential:
    """A certificate and its key from DER, as a kernel keyring has them; ValueError if they can't be used.

    Remembered, for to load an RSA key takes longer than a handshake.
    """
    try:
        end = x509.load_der_x509_certificate(certificate)
        key = load_der(private_key)
        spki = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ValueError("no DER certificate with a DER private key") from None
    if not isinstance(key, PrivateKey):
        raise ValueError(_UNSUPPORTED)
    if _spki(end) != spki:
        raise ValueError("the private key is not the certificate's")
    _check(key)
    return Credential(certificate_chain((end,), key.public_key()), key, end)


def order_chain(end: x509.Certificate, certificates: tuple[x509.Certificate, ...]) -> tuple[x509.Certificate, ...]:
    """The end certificate, its issuer, the issuer's issuer, as far as `certificates` go; the root is left out."""
    chain = [end]
    while not _is_self_issued(chain[-1]):
        issuer = next(
            (
                candidate
                for candidate in certificates
                if candidate not in chain and not _is_self_issued(candidate) and is_issued_by(chain[-1], candidate)
            ),
            None,
        )
        if issuer is None:
            break
        chain.append(issuer)
    return tuple(chain)


def _load_key(path: Path) -> PrivateKey:
    data = _read_key_file(path)
    try:
        key = load_pem(data)
    except TypeError:
        raise CredentialError(path, "the private key is encrypted; there is nobody to ask for its password") from None
    except (ValueError, UnsupportedAlgorithm):
        raise CredentialError(path, "holds no PEM private key of a supported type") from None
    if not isinstance(key, PrivateKey):
        raise CredentialError(path, _UNSUPPORTED)
    try:
        _check(key)
    except ValueError as error:
        raise CredentialError(path, str(error)) from None
    return key


def _read_key_file(path: Path) -> bytes:
    try:
        opened = open_regular(path)
    except OSError as error:
        raise CredentialError(path, error.strerror or type(error).__name__) from None
    with opened as file:
        status = os.fstat(file.fileno())
        mode = stat.S_IMODE(status.st_mode)
        if status.st_uid not in (0, os.geteuid()):
            raise CredentialError(path, f"owned by user {status.st_uid}; a private key must be root's or our own")
        if mode not in SAFE_MODES:
            allowed = ", ".join(f"{safe:04o}" for safe in SAFE_MODES)
            raise CredentialError(path, f"has mode {mode:04o}; a private key must have one of {allowed}")
        if status.st_size > MAXIMUM_KEY_FILE:
            raise CredentialError(path, f"longer than {MAXIMUM_KEY_FILE} bytes")
        return file.read(MAXIMUM_KEY_FILE)


def _load_certificates(path: Path) -> tuple[x509.Certificate, ...]:
    try:
        bundle = load_bundle(path)
    except FileError as error:
        raise CredentialError(error.path, error.reason) from None
    if bundle.skipped:
        raise CredentialError(path, "a certificate in it can't be parsed")
    return bundle.certificates


def _check(key: PrivateKey) -> None:
    """ValueError if TLS 1.3 can't use the key."""
    if isinstance(key, rsa.RSAPrivateKey) and key.key_size < MINIMUM_RSA_BITS:
        raise ValueError(f"the RSA key has {key.key_size} bits; {MINIMUM_RSA_BITS} are the least")
    if not schemes_of(key.public_key()):
        curve = key.curve.name if isinstance(key, ec.EllipticCurvePrivateKey) else "the key's curve"
        raise ValueError(f"TLS 1.3 has no signature scheme for {curve}")


def _is_for(certificate: x509.Certificate, key: PrivateKey | TokenKey) -> bool:
    """Whether that is the certificate's key."""
    if isinstance(key, TokenKey):
        return bool(key.schemes_for(certificate))
    return _spki(certificate) == key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _spki(certificate: x509.Certificate) -> bytes | None:
    try:
        return certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except (ValueError, UnsupportedAlgorithm):
        return None


def _is_self_issued(certificate: x509.Certificate) -> bool:
    return certificate.subject == certificate.issuer


def _out_of_date(path: Path, chain: tuple[x509.Certificate, ...], now: datetime) -> tuple[str, ...]:
    faults = []
    for member in chain:
        subject = member.subject.rfc4514_string()
        if member.not_valid_after_utc < now:
            faults.append(f"{path}: {subject} expired on {member.not_valid_after_utc:%Y-%m-%d}")
        elif member.not_valid_before_utc > now:
            faults.append(f"{path}: {subject} is not valid before {member.not_valid_before_utc:%Y-%m-%d}")
    return tuple(faults)
