"""Verification of a peer's certificate path (RFC 5280 section 6) against one set of trust anchors.

The path is built and checked by cryptography.x509.verification. What it leaves open is checked here: bounds, the end
certificate's key, revocation. It says why it refused in prose only, so a refusal is diagnosed anew by `diagnosis`.
"""

from __future__ import annotations

import warnings
from collections import OrderedDict
from datetime import datetime
from ipaddress import ip_address
from typing import NamedTuple

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.utils import CryptographyDeprecationWarning
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import (
    Criticality,
    ExtensionPolicy,
    Policy,
    PolicyBuilder,
    Store,
    VerificationError,
)

from quic_tlshd.policy.certificates import MAXIMUM_CURVE_BITS, MAXIMUM_RSA_BITS, MINIMUM_RSA_BITS, subject_text
from quic_tlshd.policy.diagnosis import Diagnosis, signing_fault, usage_fault
from quic_tlshd.policy.registry import TrustAnchors
from quic_tlshd.policy.revocation import RevocationLists
from quic_tlshd.tls.alert import AlertDescription, PeerError
from quic_tlshd.tls.signature import schemes_of

MAXIMUM_CERTIFICATES = 6  # real chains have up to 4, and what a path costs to refuse grows with its square
MAXIMUM_CHAIN = 100 * 1024  # bytes
REMEMBERED = 512  # paths
REMEMBERED_CHAIN = 16 * 1024  # bytes; what is longer is verified each time, so that the memory is bounded too

_SERVER = ExtendedKeyUsageOID.SERVER_AUTH
_CLIENT = ExtendedKeyUsageOID.CLIENT_AUTH

# Warning: some oddities are only warned of, which an interpreter may have been told to take for errors.
_UNPARSABLE = (ValueError, x509.InvalidVersion, x509.DuplicateExtension, x509.UnsupportedGeneralNameType, Warning)


class _Verified(NamedTuple):
    public_key: CertificatePublicKeyTypes
    not_before: datetime
    not_after: datetime


class TrustStore:
    """Verifies chains for one TrustAnchors; build it once and keep it as long as the anchors stay the same.

    A verified path is remembered until its first certificate expires. Not for use by several threads at once.

    names: the anchors' subjects, DER.
    """

    def __init__(self, anchors: TrustAnchors) -> None:
        certificates = tuple(_load_anchors(anchors.certificates))
        self.anchors = anchors
        self.names = tuple(dict.fromkeys(certificate.subject.public_bytes() for certificate in certificates))
        self._store = Store(list(certificates)) if certificates else None
        self._diagnosis = Diagnosis(certificates)
        self._revocation = RevocationLists(anchors.crls)
        self._verified: OrderedDict[tuple[str | None, tuple[bytes, ...]], _Verified] = OrderedDict()

    def verify_server(self, chain: tuple[bytes, ...], name: str, now: datetime) -> CertificatePublicKeyTypes:
        """Verify a server's chain for a DNS name or a numeric address; give the end certificate's public key.

        chain: DER, the end certificate first. now: aware. PeerError carries the alert.
        """
        return self._verify(chain, name, now)

    def verify_client(self, chain: tuple[bytes, ...], now: datetime) -> CertificatePublicKeyTypes:
        """Verify a client's chain, see verify_server; a client certificate needs no subjectAltName.

        Name constraints of its issuers bind the names in subjectAltName only (RFC 5280 section 4.2.1.10), so a client
        certificate without any is within every constraint: its subject is not a name that we rely on.
        """
        return self._verify(chain, None, now)

    def _verify(self, chain: tuple[bytes, ...], name: str | None, now: datetime) -> CertificatePublicKeyTypes:
        known = self._verified.get((name, chain))
        if known is not None and known.not_before <= now <= known.not_after:
            self._verified.move_to_end((name, chain))
            return known.public_key
        certificates = _parse(chain)
        public_key = _end_key(certificates[0])
        _check_cost(certificates[1:])
        path = self._build_path(certificates, name, now)
        self._revocation.check(path, now)
        self._remember(chain, name, public_key, path)
        return public_key

    def _build_path(
        self, certificates: tuple[x509.Certificate, ...], name: str | None, now: datetime
    ) -> tuple[x509.Certificate, ...]:
        if self._store is None:
            raise PeerError(AlertDescription.UNKNOWN_CA, "there is no trust anchor to verify a certificate with")
        subject = None if name is None else _subject(name)
        self._diagnosis.refuse_strangers(certificates)
        end, intermediates = certificates[0], list(certificates[1:])
        builder = PolicyBuilder().store(self._store).time(now).max_chain_depth(MAXIMUM_CERTIFICATES)
        try:
            if subject is None:
                policies = builder.extension_policies(ca_policy=_CLIENT_CA, ee_policy=_CLIENT_END)
                return tuple(policies.build_client_verifier().verify(end, intermediates).chain)
            policies = builder.extension_policies(ca_policy=_SERVER_CA, ee_policy=_SERVER_END)
            return tuple(policies.build_server_verifier(subject).verify(end, intermediates))
        except VerificationError:
            anyone = builder.extension_policies(ca_policy=_ANY_CA, ee_policy=_ANY_END).build_client_verifier()
            usage = _CLIENT if name is None else _SERVER
            raise self._diagnosis.explain(certificates, usage, name, now, anyone) from None
        except ValueError:
            # The verifier refuses some names (with an underscore, for one) before it looks at any certificate.
            raise PeerError(AlertDescription.BAD_CERTIFICATE, f"no certificate can be verified for {name!r}") from None

    def _remember(
        self,
        chain: tuple[bytes, ...],
        name: str | None,
        public_key: CertificatePublicKeyTypes,
        path: tuple[x509.Certificate, ...],
    ) -> None:
        if sum(map(len, chain)) > REMEMBERED_CHAIN:
            return
        since = max(member.not_valid_before_utc for member in path)
        until = min(member.not_valid_after_utc for member in path)
        self._verified[name, chain] = _Verified(public_key, since, until)
        self._verified.move_to_end((name, chain))
        if len(self._verified) > REMEMBERED:
            self._verified.popitem(last=False)


def _parse(chain: tuple[bytes, ...]) -> tuple[x509.Certificate, ...]:
    if len(chain) > MAXIMUM_CERTIFICATES or sum(map(len, chain)) > MAXIMUM_CHAIN:
        reason = f"a chain of {len(chain)} certificates and {sum(map(len, chain))} bytes is too long"
        raise PeerError(AlertDescription.BAD_CERTIFICATE, reason)
    if not chain:
        raise PeerError(AlertDescription.BAD_CERTIFICATE, "the chain is empty")
    try:
        certificates = tuple(map(x509.load_der_x509_certificate, chain))
        for certificate in certificates:
            # These are decoded on first use only: now is the time to learn that one can't be.
            _ = certificate.extensions, certificate.subject, certificate.issuer
    except _UNPARSABLE as error:
        reason = f"a certificate can't be parsed ({type(error).__name__})"
        raise PeerError(AlertDescription.BAD_CERTIFICATE, reason) from None
    return certificates


def _end_key(end: x509.Certificate) -> CertificatePublicKeyTypes:
    """The end certificate's key, if it may sign a handshake: the path verifier only looks at issuers' keys.

    A type or curve that no signature scheme is for makes it a certificate "of an unsupported type"; a short RSA key is
    a fault of this very certificate (RFC 8446 section 6.2). insufficient_security is for negotiations and isn't meant.
    """
    try:
        key = end.public_key()
    except (ValueError, UnsupportedAlgorithm):
        raise PeerError(AlertDescription.UNSUPPORTED_CERTIFICATE, "the certificate's key type is unknown") from None
    if isinstance(key, rsa.RSAPublicKey) and not MINIMUM_RSA_BITS <= key.key_size <= MAXIMUM_RSA_BITS:
        reason = f"the certificate's RSA key has {key.key_size} bits, not {MINIMUM_RSA_BITS} to {MAXIMUM_RSA_BITS}"
        raise PeerError(AlertDescription.BAD_CERTIFICATE, reason)
    if not schemes_of(key):
        what = f"curve {key.curve.name}" if isinstance(key, ec.EllipticCurvePublicKey) else type(key).__name__
        raise PeerError(AlertDescription.UNSUPPORTED_CERTIFICATE, f"no signature scheme is for the key ({what})")
    return key


def _check_cost(issuers: tuple[x509.Certificate, ...]) -> None:
    """Refuse keys that only make verification slow, before anything is verified with them."""
    for issuer in issuers:
        try:
            key = issuer.public_key()
        except (ValueError, UnsupportedAlgorithm):
            continue  # nothing can be verified with it
        limit = MAXIMUM_CURVE_BITS if isinstance(key, ec.EllipticCurvePublicKey) else MAXIMUM_RSA_BITS
        bits = getattr(key, "key_size", 0)
        if bits > limit:
            reason = f"the key of the issuer {subject_text(issuer)} has {bits} bits, more than {limit}"
            raise PeerError(AlertDescription.UNSUPPORTED_CERTIFICATE, reason)


def _subject(name: str) -> x509.DNSName | x509.IPAddress:
    try:
        # A link-local address may carry a zone, which no certificate knows.
        return x509.IPAddress(ip_address(name.partition("%")[0]))
    except ValueError:
        pass
    try:
        return x509.DNSName(name.removesuffix("."))
    except ValueError:
        raise PeerError(AlertDescription.BAD_CERTIFICATE, f"no certificate can be for the name {name!r}") from None


def _load_anchors(ders: tuple[bytes, ...]) -> list[x509.Certificate]:
    with warnings.catch_warnings():
        # Roots with the serial number 0 are in use; a peer gets no such allowance.
        warnings.simplefilter("ignore", CryptographyDeprecationWarning)
        return [x509.load_der_x509_certificate(der) for der in ders]


def _is_authority(_: Policy, __: x509.Certificate, extension: x509.BasicConstraints) -> None:
    if not extension.ca:
        raise ValueError("not a CA certificate")


def _signs_certificates(_: Policy, __: x509.Certificate, extension: x509.KeyUsage | None) -> None:
    if extension is not None and not extension.key_cert_sign:
        raise ValueError("keyUsage without keyCertSign")


def _signs_handshakes(_: Policy, certificate: x509.Certificate, __: x509.KeyUsage | None) -> None:
    if (fault := signing_fault(certificate)) is not None:
        raise ValueError(fault)


def _policies(usage: x509.ObjectIdentifier, *, named: bool) -> tuple[ExtensionPolicy, ExtensionPolicy]:
    """What CA and end certificates must have for a usage: RFC 5280, without the Web PKI's additions.

    Those would refuse what `openssl req -x509` makes and private CAs issue. Path length, name constraints and unknown
    critical extensions are checked by the verifier whatever the policy.
    """

    def fits(_: Policy, certificate: x509.Certificate, __: x509.ExtendedKeyUsage | None) -> None:
        if (fault := usage_fault(certificate, usage)) is not None:
            raise ValueError(fault)

    authority = _ANY_CA.may_be_present(x509.ExtendedKeyUsage, _AGNOSTIC, fits)
    end = _ANY_END.may_be_present(x509.ExtendedKeyUsage, _AGNOSTIC, fits)
    end = end.may_be_present(x509.KeyUsage, _AGNOSTIC, _signs_handshakes)
    if named:
        end = end.require_present(x509.SubjectAlternativeName, _AGNOSTIC, None)
    return authority, end


_AGNOSTIC = Criticality.AGNOSTIC
_ANY_CA = (
    ExtensionPolicy.permit_all()
    .require_present(x509.BasicConstraints, _AGNOSTIC, _is_authority)
    .may_be_present(x509.KeyUsage, _AGNOSTIC, _signs_certificates)
)
_ANY_END = ExtensionPolicy.permit_all()
_SERVER_CA, _SERVER_END = _policies(_SERVER, named=True)
_CLIENT_CA, _CLIENT_END = _policies(_CLIENT, named=False)
