"""Certificate revocation lists (RFC 5280 section 5): has an issuer taken back what it signed?

As with GnuTLS, and so with tlshd, a certificate is good unless a list says otherwise: no list for its issuer is no
fault, and what any of several lists names is revoked, be the list out of date or not valid yet.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from quic_tlshd.policy.certificates import subject_text
from quic_tlshd.tls.alert import AlertDescription, PeerError

_LOG = logging.getLogger(__name__)


@dataclass(slots=True)
class _List:
    """One CRL. serials: a set, since the library's own lookup walks the list. issuers: who is known to have signed."""

    crl: x509.CertificateRevocationList
    serials: frozenset[int]
    issuers: set[x509.Certificate] = field(default_factory=set)
    reported: bool = False

    def is_by(self, issuer: x509.Certificate) -> bool:
        """Whether that issuer signed the list and may."""
        if issuer in self.issuers:
            return True
        if not (_may_sign(issuer) and _is_signed(self.crl, issuer)):
            return False
        self.issuers.add(issuer)
        return True

    def report(self, problem: str) -> None:
        """Log once that the list is not as it should be."""
        if not self.reported:
            self.reported = True
            _LOG.warning("the revocation list of %s %s", self.crl.issuer.rfc4514_string(), problem)


class RevocationLists:
    """The lists that go with one set of trust anchors; DER. A path whose issuers have none here is not checked."""

    def __init__(self, crls: tuple[bytes, ...]) -> None:
        self._lists: dict[x509.Name, list[_List]] = {}
        for crl in map(x509.load_der_x509_crl, crls):
            entry = _List(crl, frozenset(revoked.serial_number for revoked in crl))
            self._lists.setdefault(crl.issuer, []).append(entry)

    def check(self, path: tuple[x509.Certificate, ...], now: datetime) -> None:
        """PeerError(certificate_revoked) if an issuer of the verified path has revoked the certificate below it.

        A list past its nextUpdate or before its thisUpdate counts, with a warning.
        """
        if not self._lists:
            return
        for certificate, issuer in pairwise(path):
            for entry in self._lists.get(issuer.subject, ()):
                if not entry.is_by(issuer):
                    entry.report("is not signed by the issuer of that name that peers show, and is not used for it")
                    continue
                until = entry.crl.next_update_utc
                if until is not None and until < now:
                    entry.report(f"expired on {until:%Y-%m-%d}; what was revoked since is not known")
                elif now < entry.crl.last_update_utc:
                    entry.report(f"is not valid before {entry.crl.last_update_utc:%Y-%m-%d}")
                if certificate.serial_number in entry.serials:
                    reason = (
                        f"the certificate of {subject_text(certificate)} is revoked "
                        f"(serial {certificate.serial_number:x})"
                    )
                    raise PeerError(AlertDescription.CERTIFICATE_REVOKED, reason)


def _may_sign(issuer: x509.Certificate) -> bool:
    try:
        return issuer.extensions.get_extension_for_class(x509.KeyUsage).value.crl_sign
    except x509.ExtensionNotFound:
        return True


def _is_signed(crl: x509.CertificateRevocationList, issuer: x509.Certificate) -> bool:
    try:
        # No issuer on a verified path has a key that is_signature_valid can't take.
        return crl.is_signature_valid(issuer.public_key())  # type: ignore[arg-type]
    except (TypeError, ValueError, UnsupportedAlgorithm):
        return False
