"""Why a certificate path was refused, as one of the alerts of RFC 8446 section 6.2. Runs after a refusal only."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from itertools import pairwise

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from quic_tlshd.policy.certificates import SIGNATURE_HASHES, is_issued_by, subject_text
from quic_tlshd.policy.paths import Path, broken_link, unknown_issuer
from quic_tlshd.policy.text import quoted
from quic_tlshd.tls.alert import AlertDescription, PeerError

SHOWN_NAMES = 5


def explain(
    path: Path, usage: x509.ObjectIdentifier, name: str | None, now: datetime, fits_anyone: Callable[[], bool]
) -> PeerError:
    """The PeerError for a path that was refused. fits_anyone: whether it would do for any usage and name.

    If it would, the usage or the name was at fault, else the path.
    """
    for certificate, issuer in pairwise(path):
        if not is_issued_by(certificate, issuer):
            return broken_link(certificate, [issuer]) or unknown_issuer(certificate)
    if not fits_anyone():
        return _explain_path(path, now)
    faults = [fault for member in path if (fault := usage_fault(member, usage)) is not None]
    if (fault := signing_fault(path[0])) is not None:
        faults.append(fault)
    if faults:
        return PeerError(AlertDescription.UNSUPPORTED_CERTIFICATE, faults[0])
    if name is not None:
        return PeerError(AlertDescription.BAD_CERTIFICATE, _name_fault(path[0], name))
    return PeerError(AlertDescription.CERTIFICATE_UNKNOWN, "the certificate is not acceptable")


def _explain_path(path: Path, now: datetime) -> PeerError:
    for member in path:
        since, until = member.not_valid_before_utc, member.not_valid_after_utc
        if until < now:
            reason = f"the certificate of {subject_text(member)} expired on {until:%Y-%m-%d %H:%M}"
            return PeerError(AlertDescription.CERTIFICATE_EXPIRED, reason)
        if since > now:
            reason = f"the certificate of {subject_text(member)} is not valid before {since:%Y-%m-%d %H:%M}"
            return PeerError(AlertDescription.CERTIFICATE_EXPIRED, reason)
    for certificate in path[:-1]:
        if not isinstance(digest := certificate.signature_hash_algorithm, SIGNATURE_HASHES):
            reason = f"the certificate of {subject_text(certificate)} is signed by {digest.name}"
            return PeerError(AlertDescription.UNSUPPORTED_CERTIFICATE, reason)
    reason = f"the path of {subject_text(path[0])} breaks a rule of its issuers (CA, path length, name constraints)"
    return PeerError(AlertDescription.CERTIFICATE_UNKNOWN, reason)


def usage_fault(certificate: x509.Certificate, usage: x509.ObjectIdentifier) -> str | None:
    """Why extendedKeyUsage forbids the use, None if it doesn't (RFC 5280 section 4.2.1.12)."""
    try:
        allowed = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return None
    if usage in allowed or ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE in allowed:
        return None
    role = "servers" if usage == ExtendedKeyUsageOID.SERVER_AUTH else "clients"
    return f"extendedKeyUsage of {subject_text(certificate)} is not for TLS {role}"


def signing_fault(certificate: x509.Certificate) -> str | None:
    """Why keyUsage forbids the end certificate to sign a handshake (RFC 8446 section 4.4.2.2), None if it doesn't."""
    try:
        allowed = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        return None
    return None if allowed.digital_signature else f"keyUsage of {subject_text(certificate)} lacks digitalSignature"


def _name_fault(end: x509.Certificate, name: str) -> str:
    try:
        names = end.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return f"the server's certificate has no subjectAltName, so it is not for {name!r}"
    shown = [quoted(str(other.value)) for other in list(names)[:SHOWN_NAMES]]
    more = f" and {len(list(names)) - SHOWN_NAMES} more" if len(list(names)) > SHOWN_NAMES else ""
    return f"the server's certificate is for {', '.join(shown)}{more}, not for {name!r}"
