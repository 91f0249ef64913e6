"""What cryptography.x509.verification is asked about one certificate path, and what is added to its answer.

It judges dates, issuers' keys, basic constraints, path length, critical extensions, name constraints and the server's
name. Which extensions a path must have is told to it as for private authorities, not as for the Web PKI.
"""

from __future__ import annotations

from datetime import datetime

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import (
    Criticality,
    ExtensionPolicy,
    Policy,
    PolicyBuilder,
    Store,
    VerificationError,
)

from quic_tlshd.policy.diagnosis import explain, signing_fault, usage_fault
from quic_tlshd.policy.name_constraints import PathConstraints
from quic_tlshd.policy.paths import MAXIMUM_PATH, Path
from quic_tlshd.policy.transcription import is_refused, transcribe
from quic_tlshd.tls.alert import PeerError

Subject = x509.DNSName | x509.IPAddress

_SERVER = ExtendedKeyUsageOID.SERVER_AUTH
_CLIENT = ExtendedKeyUsageOID.CLIENT_AUTH


def is_good(path: Path, subject: Subject | None, now: datetime) -> bool:
    """Whether the path is good for a server of that name or, with None, for a client."""
    try:
        _Judge(path, now).judge(subject)
    except (VerificationError, ValueError, PeerError):
        return False
    return True


def refusal(path: Path, subject: Subject | None, now: datetime) -> PeerError:
    """Why a path isn't good."""
    judge = _Judge(path, now)
    try:
        judge.judge(subject)
    except PeerError as error:
        return error
    except (VerificationError, ValueError):
        pass
    name = None if subject is None else str(subject.value)
    return explain(path, _CLIENT if name is None else _SERVER, name, now, judge.fits_anyone)


class _Judge:
    """One path and the time for which it is judged."""

    def __init__(self, path: Path, now: datetime) -> None:
        self._path = path
        self._constraints = PathConstraints(path)
        self._now = now

    def judge(self, subject: Subject | None) -> None:
        """VerificationError or ValueError if the verifier refuses the path, PeerError if we do."""
        self._constraints.check_cost()
        self._constraints.check_directory_names()
        if subject is None:
            self._verify(None, _CLIENT_CA, _CLIENT_END)
        elif "_" not in str(subject.value):
            self._verify(subject, _SERVER_CA, _SERVER_END)
        else:  # which the verifier takes for no name
            self._verify(None, _SERVER_CA, _SERVER_END)
            if not _is_for(self._path[0], str(subject.value)):
                raise ValueError("another's name")

    def fits_anyone(self) -> bool:
        """Whether the path would be good for any usage and name."""
        try:
            self._verify(None, _ANY_CA, _ANY_END)
        except (VerificationError, ValueError):
            return False
        return True

    def _verify(self, subject: Subject | None, authority: ExtensionPolicy, end: ExtensionPolicy) -> None:
        path = self._path
        if is_refused(path) or self._constraints.has_directory_names:
            path = transcribe(path)
        builder = PolicyBuilder().store(Store([path[-1]])).time(self._now).max_chain_depth(MAXIMUM_PATH)
        builder = builder.extension_policies(ca_policy=authority, ee_policy=end)
        verifier = builder.build_client_verifier() if subject is None else builder.build_server_verifier(subject)
        verifier.verify(path[0], list(path[1:-1]))


def _is_for(certificate: x509.Certificate, name: str) -> bool:
    """Whether a dNSName of subjectAltName is the name, or its parent with `*` as the first label (RFC 9525 6.3)."""
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    name = name.lower()
    wildcard = f"*.{name.partition('.')[2]}"
    return any(pattern.lower() in (name, wildcard) for pattern in names.get_values_for_type(x509.DNSName))


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
