"""Why a certificate path was refused, as one of the alerts of RFC 8446 section 6.2. Runs after a refusal only."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import ClientVerifier, VerificationError

from quic_tlshd.policy.certificates import MINIMUM_RSA_BITS, is_issued_by, issuer_text, subject_text
from quic_tlshd.policy.text import quoted
from quic_tlshd.tls.alert import AlertDescription, PeerError

SHOWN_NAMES = 5


class _Walk(NamedTuple):
    """Where following issuers led. broken: a signature on the way that does not verify."""

    path: tuple[x509.Certificate, ...]
    anchored: bool
    broken: x509.Certificate | None


class Diagnosis:
    """Explains refusals by one set of trust anchors."""

    def __init__(self, anchors: tuple[x509.Certificate, ...]) -> None:
        self._anchors = anchors
        self._subjects = frozenset(anchor.subject for anchor in anchors)

    def refuse_strangers(self, certificates: tuple[x509.Certificate, ...]) -> None:
        """PeerError if no path of names and signatures leads from the first certificate to a trust anchor.

        A path verifier tries every order of issuers that have one name and key, which takes factorial time where none
        leads anywhere. This asks of each pair of certificates once, and of none where the names can't fit.
        """
        if certificates[0] in self._anchors:
            return
        if not any(member.issuer in self._subjects for member in certificates):
            path = [certificates[0]]
            while above := [each for each in certificates if each.subject == path[-1].issuer and each not in path]:
                path.append(above[0])
            raise _unknown(path[-1])
        walk = self._walk(certificates)
        if walk.broken is not None:
            reason = f"the signature on the certificate of {subject_text(walk.broken)} does not verify"
            raise PeerError(AlertDescription.BAD_CERTIFICATE, reason)
        if not walk.anchored:
            raise _unknown(walk.path[-1])

    def explain(
        self,
        certificates: tuple[x509.Certificate, ...],
        usage: x509.ObjectIdentifier,
        name: str | None,
        now: datetime,
        anyone: ClientVerifier,
    ) -> PeerError:
        """The PeerError for a chain that was refused, though not as a stranger's. anyone: verifies a path for any usage
        and name.

        If `anyone` is content, the usage or the name was at fault, else the path.
        """
        try:
            path = anyone.verify(certificates[0], list(certificates[1:])).chain
        except VerificationError:
            return self._explain_path(certificates, now)
        faults = [fault for member in path if (fault := usage_fault(member, usage)) is not None]
        if (fault := signing_fault(path[0])) is not None:
            faults.append(fault)
        if faults:
            return PeerError(AlertDescription.UNSUPPORTED_CERTIFICATE, faults[0])
        if name is not None:
            return PeerError(AlertDescription.BAD_CERTIFICATE, _name_fault(path[0], name))
        return PeerError(AlertDescription.CERTIFICATE_UNKNOWN, "the certificate is not acceptable")

    def _explain_path(self, certificates: tuple[x509.Certificate, ...], now: datetime) -> PeerError:
        walk = self._walk(certificates)
        for member in walk.path:
            since, until = member.not_valid_before_utc, member.not_valid_after_utc
            if until < now:
                reason = f"the certificate of {subject_text(member)} expired on {until:%Y-%m-%d %H:%M}"
                return PeerError(AlertDescription.CERTIFICATE_EXPIRED, reason)
            if since > now:
                reason = f"the certificate of {subject_text(member)} is not valid before {since:%Y-%m-%d %H:%M}"
                return PeerError(AlertDescription.CERTIFICATE_EXPIRED, reason)
        for member in walk.path[1:]:
            if not _strong_issuer(member):
                reason = f"the key of the issuer {subject_text(member)} is weak or of a type that is not supported"
                return PeerError(AlertDescription.UNSUPPORTED_CERTIFICATE, reason)
        reason = (
            f"the path of {subject_text(walk.path[0])} breaks a rule of its issuers (CA, path length, name constraints)"
        )
        return PeerError(AlertDescription.CERTIFICATE_UNKNOWN, reason)

    def _walk(self, certificates: tuple[x509.Certificate, ...]) -> _Walk:
        """The first way to a trust anchor, else the first dead end. No certificate is visited twice."""
        ways: list[tuple[x509.Certificate, ...]] = [certificates[:1]]
        visited, dead_end = {certificates[0]}, None
        while ways:
            path = ways.pop()
            if path[-1] in self._anchors:
                return _Walk(path, anchored=True, broken=None)
            named = [
                each
                for each in self._anchors + certificates[1:]
                if each.subject == path[-1].issuer and each not in visited
            ]
            issuers = [each for each in dict.fromkeys(named) if is_issued_by(path[-1], each)]
            visited.update(issuers)
            ways += [(*path, issuer) for issuer in reversed(issuers)]
            if not issuers and dead_end is None:
                claimed = any(_same_key_identifier(path[-1], each) for each in named)
                dead_end = _Walk(path, anchored=False, broken=path[-1] if claimed else None)
        return dead_end or _Walk(certificates[:1], anchored=False, broken=None)


def _unknown(last: x509.Certificate) -> PeerError:
    reason = f"no trust anchor for {issuer_text(last)}, who issued {subject_text(last)}"
    return PeerError(AlertDescription.UNKNOWN_CA, reason)


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


def _same_key_identifier(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Whether the certificate claims that very issuer's key: then its signature is wrong, not its issuer unknown."""
    try:
        claimed = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
        return claimed == issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    except x509.ExtensionNotFound:
        return False


def _strong_issuer(certificate: x509.Certificate) -> bool:
    try:
        key = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        return False
    if isinstance(key, rsa.RSAPublicKey):
        return key.key_size >= MINIMUM_RSA_BITS
    return isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name in ("secp256r1", "secp384r1", "secp521r1")


def _name_fault(end: x509.Certificate, name: str) -> str:
    try:
        names = end.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return f"the server's certificate has no subjectAltName, so it is not for {name!r}"
    shown = [quoted(str(other.value)) for other in list(names)[:SHOWN_NAMES]]
    more = f" and {len(list(names)) - SHOWN_NAMES} more" if len(list(names)) > SHOWN_NAMES else ""
    return f"the server's certificate is for {', '.join(shown)}{more}, not for {name!r}"
