"""Verification of a peer's certificate path (RFC 5280 section 6) against one set of trust anchors.

`paths` finds the ways to a trust anchor, `judge` has each judged by cryptography.x509.verification, `diagnosis` says
why one was refused. What remains is here: bounds, the end certificate's key, revocation, and what is remembered.
"""

from __future__ import annotations

import warnings
from collections import OrderedDict
from datetime import datetime
from ipaddress import ip_address
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.utils import CryptographyDeprecationWarning

from quic_tlshd.policy.certificates import decode, public_key_of
from quic_tlshd.policy.judge import Subject, is_good, refusal
from quic_tlshd.policy.ocsp import check_responses
from quic_tlshd.policy.paths import Path, PathFinder
from quic_tlshd.policy.registry import TrustAnchors
from quic_tlshd.policy.revocation import RevocationLists
from quic_tlshd.tls.alert import AlertDescription, PeerError

MAXIMUM_CERTIFICATES = 16  # the chain and what some servers send beside it
MAXIMUM_CHAIN = 100 * 1024  # bytes
REMEMBERED = 512  # paths
REMEMBERED_CHAIN = 16 * 1024  # bytes; what is longer is verified each time, so that the memory is bounded too


class _Verified(NamedTuple):
    public_key: CertificatePublicKeyTypes
    not_before: datetime
    not_after: datetime


_Key = tuple[str | None, tuple[bytes, ...], tuple[bytes, ...]]  # the name, the chain, the OCSP responses


class TrustStore:
    """Verifies chains for one TrustAnchors; build it once and keep it as long as the anchors stay the same.

    A verified path is remembered until the first certificate or OCSP response expires. Not for use by several threads.

    names: the anchors' subjects, DER.
    """

    def __init__(self, anchors: TrustAnchors) -> None:
        certificates = tuple(_load_anchors(anchors.certificates))
        self.anchors = anchors
        self._finder = PathFinder(certificates)
        self.names = tuple(self._finder.by_subject)
        self._revocation = RevocationLists(anchors.crls)
        self._verified: OrderedDict[_Key, _Verified] = OrderedDict()

    def verify_server(
        self, chain: tuple[bytes, ...], name: str, now: datetime, responses: tuple[bytes, ...] = ()
    ) -> CertificatePublicKeyTypes:
        """Verify a server's chain for a DNS name or a numeric address; give the end certificate's public key.

        chain: DER, the end certificate first. now: aware. responses: the OCSP responses that are stapled to the chain's
        certificates, in their order, empty where there is none. PeerError carries the alert.
        """
        return self._verify(chain, name, now, responses)

    def verify_client(self, chain: tuple[bytes, ...], now: datetime) -> CertificatePublicKeyTypes:
        """Verify a client's chain, see verify_server; a client certificate needs no subjectAltName.

        Name constraints of its issuers bind the names in subjectAltName only (RFC 5280 section 4.2.1.10), so a client
        certificate without any is within every constraint: its subject is not a name that we rely on.
        """
        return self._verify(chain, None, now, ())

    def _verify(
        self, chain: tuple[bytes, ...], name: str | None, now: datetime, responses: tuple[bytes, ...]
    ) -> CertificatePublicKeyTypes:
        key = (name, chain, responses)
        known = self._verified.get(key)
        if known is not None and known.not_before <= now <= known.not_after:
            self._verified.move_to_end(key)
            return known.public_key
        certificates = _parse(chain)
        public_key = public_key_of(certificates[0])
        path = self._verify_path(certificates, name, now)
        self._revocation.check(path, now)
        until = min(member.not_valid_after_utc for member in path)
        if name is not None:
            until = min(until, check_responses(path, dict(zip(certificates, responses, strict=False)), now))
        self._remember(key, _Verified(public_key, max(member.not_valid_before_utc for member in path), until))
        return public_key

    def _verify_path(self, certificates: tuple[x509.Certificate, ...], name: str | None, now: datetime) -> Path:
        """The first path that is found good; PeerError for the first that was not."""
        if not self._finder.anchors:
            raise PeerError(AlertDescription.UNKNOWN_CA, "there is no trust anchor to verify a certificate with")
        subject = None if name is None else _subject(name)
        refused: Path = ()
        for path in self._finder.find(certificates):
            if is_good(path, subject, now):
                return path
            refused = refused or path
        raise refusal(refused, subject, now)

    def _remember(self, key: _Key, verified: _Verified) -> None:
        _, chain, responses = key
        if sum(map(len, chain)) + sum(map(len, responses)) > REMEMBERED_CHAIN:
            return
        self._verified[key] = verified
        self._verified.move_to_end(key)
        if len(self._verified) > REMEMBERED:
            self._verified.popitem(last=False)


def _parse(chain: tuple[bytes, ...]) -> tuple[x509.Certificate, ...]:
    if len(chain) > MAXIMUM_CERTIFICATES or sum(map(len, chain)) > MAXIMUM_CHAIN:
        reason = f"a chain of {len(chain)} certificates and {sum(map(len, chain))} bytes is too long"
        raise PeerError(AlertDescription.BAD_CERTIFICATE, reason)
    if not chain:
        raise PeerError(AlertDescription.BAD_CERTIFICATE, "the chain is empty")
    try:
        return tuple([decode(der, x509.load_der_x509_certificate) for der in chain])
    except ValueError as error:
        raise PeerError(AlertDescription.BAD_CERTIFICATE, f"a certificate can't be parsed ({error})") from None


def _subject(name: str) -> Subject:
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
