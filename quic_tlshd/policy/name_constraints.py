"""Name constraints (RFC 5280 section 4.2.1.10): what cryptography.x509.verification leaves out of them.

It compares the names in subjectAltName with them, and takes its time: a third of a second for as many names and
constraints as a peer can show. Directory names it does not compare; here they are, and the subject with them.
"""

from __future__ import annotations

from contextlib import suppress

from cryptography import x509

from quic_tlshd.policy.certificates import subject_text
from quic_tlshd.policy.paths import Path
from quic_tlshd.tls.alert import AlertDescription, PeerError

MAXIMUM_COMPARISONS = 1 << 15  # of a name with a constraint, 0.3 µs each; a path in use may need some hundreds


class PathConstraints:
    """The name constraints that the certificates of one path have."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._constraints: list[tuple[int, x509.NameConstraints]] = []  # with the position of whose they are
        for position, member in enumerate(path):
            with suppress(x509.ExtensionNotFound):
                found = member.extensions.get_extension_for_class(x509.NameConstraints).value
                self._constraints.append((position, found))

    @property
    def has_directory_names(self) -> bool:
        """Whether any constraint is on directory names."""
        return any(_directory_names(_permitted(each) + _excluded(each)) for _, each in self._constraints)

    def check_cost(self) -> None:
        """Refuse a path with too many names and constraints, before any are compared."""
        constraints = sum(len(_permitted(each) + _excluded(each)) for _, each in self._constraints)
        names = sum(len(_alternative_names(member)) for member in self._path) if constraints else 0
        if names * constraints > MAXIMUM_COMPARISONS:
            reason = f"{names} names with {constraints} name constraints are too many"
            raise PeerError(AlertDescription.BAD_CERTIFICATE, reason)

    def check_directory_names(self) -> None:
        """Refuse a path where an issuer's constraints don't let a certificate below have its directory name.

        The names of self-issued certificates are not bound, but that of the end certificate is.
        """
        for position, constraints in self._constraints:
            permitted = _directory_names(_permitted(constraints))
            excluded = _directory_names(_excluded(constraints))
            for member in self._path[:position] if permitted or excluded else ():
                if member is not self._path[0] and member.subject == member.issuer:
                    continue
                for name in (member.subject, *_directory_names(_alternative_names(member))):
                    if name.rdns and ((permitted and not _is_within(name, permitted)) or _is_within(name, excluded)):
                        issuer = subject_text(self._path[position])
                        reason = f"{issuer} may not issue for the name of {subject_text(member)}"
                        raise PeerError(AlertDescription.CERTIFICATE_UNKNOWN, reason)


def without_directory_names(constraints: x509.NameConstraints) -> x509.NameConstraints | None:
    """The constraints on other names, None if there are none."""
    permitted = [name for name in _permitted(constraints) if not isinstance(name, x509.DirectoryName)]
    excluded = [name for name in _excluded(constraints) if not isinstance(name, x509.DirectoryName)]
    return x509.NameConstraints(permitted or None, excluded or None) if permitted or excluded else None


def _is_within(name: x509.Name, subtrees: list[x509.Name]) -> bool:
    return any(name.rdns[: len(base.rdns)] == base.rdns for base in subtrees)


def _permitted(constraints: x509.NameConstraints) -> list[x509.GeneralName]:
    return constraints.permitted_subtrees or []


def _excluded(constraints: x509.NameConstraints) -> list[x509.GeneralName]:
    return constraints.excluded_subtrees or []


def _alternative_names(certificate: x509.Certificate) -> list[x509.GeneralName]:
    try:
        return list(certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except x509.ExtensionNotFound:
        return []


def _directory_names(names: list[x509.GeneralName]) -> list[x509.Name]:
    return [name.value for name in names if isinstance(name, x509.DirectoryName)]
