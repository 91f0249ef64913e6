"""Certificate paths: the ways from a peer's certificate to a trust anchor (RFC 5280 section 6.1, RFC 4158).

They are found by names and, where a name is shared, by signatures; what else a path must fulfil is asked in `trust`.
A chain is of the peer's making, so the search is bounded: no path has an issuer's name and key twice, each signature
is verified once, and no more than MAXIMUM_SIGNATURES of them whatever there is to be found.
"""

from __future__ import annotations

from collections.abc import Iterator

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes

from quic_tlshd.policy.certificates import (
    is_issued_by,
    is_signed_by_broken_hash,
    issuer_text,
    public_key_of,
    subject_text,
)
from quic_tlshd.tls.alert import AlertDescription, PeerError

MAXIMUM_PATH = 10  # certificates, the trust anchor among them; those in use have up to 5
MAXIMUM_SIGNATURES = 32  # that are verified for one chain, by the search and for the paths that it gives

Path = tuple[x509.Certificate, ...]
"""The end certificate first, the trust anchor last; one certificate if that is an anchor itself."""


class PathFinder:
    """Finds paths to one set of trust anchors, be they roots, intermediates or end certificates."""

    def __init__(self, anchors: tuple[x509.Certificate, ...]) -> None:
        self.anchors = frozenset(anchors)
        self.by_subject = _by_subject(anchors)

    def find(self, certificates: tuple[x509.Certificate, ...]) -> Iterator[Path]:
        """The paths that begin with the first certificate and go on through any of the others, the likeliest first.

        A signature is left unverified where there was no choice. PeerError instead of the first path if there is none.
        """
        search = _Search(self, certificates)
        found = False
        for path in search.extend(certificates[:1]):
            found = True
            yield path
        if not found:
            assert search.dead_end is not None
            raise search.dead_end


class _Search:
    """One search. dead_end: what is wrong at the end of the first way that led nowhere."""

    def __init__(self, finder: PathFinder, certificates: tuple[x509.Certificate, ...]) -> None:
        self.dead_end: PeerError | None = None
        self._finder = finder
        self._shown = _by_subject(tuple(dict.fromkeys(certificates[1:])))
        self._keys: dict[x509.Certificate, CertificatePublicKeyTypes | PeerError] = {}
        self._signed: dict[tuple[x509.Certificate, x509.Certificate], bool] = {}
        self._left = MAXIMUM_SIGNATURES

    def extend(self, path: Path) -> Iterator[Path]:
        """All the paths that begin like this."""
        if path[-1] in self._finder.anchors:
            self._left -= len(path) - 1  # which whoever asked for the path will verify
            if self._left >= 0:
                yield path
            else:
                self.dead_end = self.dead_end or self._explain(path, [], [])
            return
        for issuer in self._issuers(path):
            yield from self.extend((*path, issuer))

    def _issuers(self, path: Path) -> Iterator[x509.Certificate]:
        """Who can have issued the last certificate, the likeliest first."""
        last = path[-1]
        name = last.issuer.public_bytes()
        named = [
            each for each in (*self._finder.by_subject.get(name, ()), *self._shown.get(name, ())) if each not in path
        ]
        usable = [each for each in named if self._is_usable(each, path)]
        if len(path) == MAXIMUM_PATH:
            usable = []
        if len(usable) > 1:
            usable.sort(key=lambda each: _likeliness(last, each))
        is_issued = False
        for issuer in usable:
            if len(usable) == 1 or self._is_signed(last, issuer):
                is_issued = True
                yield issuer
        if not is_issued and self.dead_end is None:
            self.dead_end = self._explain(path, named, usable)

    def _is_usable(self, issuer: x509.Certificate, path: Path) -> bool:
        key = self._key(issuer)
        if isinstance(key, PeerError):
            return False
        return not any(member.subject == issuer.subject and self._key(member) == key for member in path[1:])

    def _key(self, issuer: x509.Certificate) -> CertificatePublicKeyTypes | PeerError:
        if issuer not in self._keys:
            try:
                self._keys[issuer] = public_key_of(issuer)
            except PeerError as error:
                self._keys[issuer] = error
        return self._keys[issuer]

    def _is_signed(self, certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
        pair = (certificate, issuer)
        if pair not in self._signed:
            self._left -= 1
            self._signed[pair] = self._left >= 0 and is_issued_by(*pair)
        return self._signed[pair]

    def _explain(self, path: Path, named: list[x509.Certificate], usable: list[x509.Certificate]) -> PeerError:
        last = path[-1]
        if self._left < 0:
            return PeerError(AlertDescription.BAD_CERTIFICATE, "the chain leads too many ways that lead nowhere")
        if len(path) == MAXIMUM_PATH:
            reason = f"no trust anchor is reached within {MAXIMUM_PATH} certificates"
            return PeerError(AlertDescription.UNKNOWN_CA, reason)
        faults = [key for each in named if isinstance(key := self._key(each), PeerError)]
        if faults and not usable:
            return faults[0]
        return broken_link(last, usable) or unknown_issuer(last)


def broken_link(certificate: x509.Certificate, issuers: list[x509.Certificate]) -> PeerError | None:
    """Why a certificate that none of `issuers` has signed is a bad one, though it is of their name; None if it is just
    another's, who happens to have that name too."""
    if is_signed_by_broken_hash(certificate):
        reason = f"the certificate of {subject_text(certificate)} is signed by MD5 or SHA-1"
        return PeerError(AlertDescription.BAD_CERTIFICATE, reason)
    if any(_likeliness(certificate, issuer) == _SAME_KEY for issuer in issuers):
        reason = f"the signature on the certificate of {subject_text(certificate)} does not verify"
        return PeerError(AlertDescription.BAD_CERTIFICATE, reason)
    return None


def unknown_issuer(certificate: x509.Certificate) -> PeerError:
    reason = f"no trust anchor for {issuer_text(certificate)}, who issued {subject_text(certificate)}"
    return PeerError(AlertDescription.UNKNOWN_CA, reason)


def _by_subject(certificates: tuple[x509.Certificate, ...]) -> dict[bytes, list[x509.Certificate]]:
    """Certificates by their subjects in DER, as the verifier compares names too."""
    found: dict[bytes, list[x509.Certificate]] = {}
    for certificate in certificates:
        found.setdefault(certificate.subject.public_bytes(), []).append(certificate)
    return found


_SAME_KEY, _ANY_KEY, _ANOTHER_KEY = range(3)


def _likeliness(certificate: x509.Certificate, issuer: x509.Certificate) -> int:
    """Whether the certificate says that its issuer has that very key (RFC 5280 sections 4.2.1.1 and 4.2.1.2)."""
    try:
        claimed = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
        own = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    except x509.ExtensionNotFound:
        return _ANY_KEY
    return _SAME_KEY if claimed == own else _ANOTHER_KEY if claimed is not None else _ANY_KEY
