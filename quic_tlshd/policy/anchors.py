"""Trust anchors from files: a named trust store or the system's, and revocation lists."""

from __future__ import annotations

import os
import ssl
from datetime import datetime
from pathlib import Path

from cryptography.x509 import CertificateRevocationList

from quic_tlshd.policy.files import Stamp, stamp
from quic_tlshd.policy.ini import BUILT_IN, NamedFile, Warned
from quic_tlshd.policy.pem import Bundle, FileError, der, load_crls, load_trusted
from quic_tlshd.policy.registry import TrustAnchors

SYSTEM = "system"
SYSTEM_STORES = (
    Path("/etc/ssl/certs/ca-certificates.crt"),  # Debian, Ubuntu, Arch, Gentoo, Alpine
    Path("/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem"),  # Fedora, RHEL
    Path("/etc/pki/tls/certs/ca-bundle.crt"),  # older ones
    Path("/etc/ssl/ca-bundle.pem"),  # SUSE
    Path("/etc/ssl/cert.pem"),  # Alpine without ca-certificates
)


class AnchorLoader:
    """Reads every trust store once, however many entries name it. trust: by TrustAnchors.name, and so are crl_files.

    stamps: of those files. warnings: members that were left out, and lists that are out of date.
    """

    def __init__(self, now: datetime) -> None:
        self.trust: dict[str, TrustAnchors] = {}
        self.crl_files: dict[str, NamedFile] = {}
        self.stamps: dict[Path, Stamp] = {}
        self.warnings: list[Warned] = []
        self._now = now
        self._certificates: dict[Path | None, tuple[bytes, ...]] = {}

    def load(self, truststore: NamedFile | None, crl: NamedFile | None) -> str:
        """Load a trust store (None: the system's) with its revocation lists; give the name to find it under.

        ConfigError if a named file can't be used. Without any system store nobody is trusted, which is warned of.
        """
        name = SYSTEM if truststore is None else str(truststore.path)
        if crl is not None:
            name += f" without {crl.path}"
        if name not in self.trust:
            path = None if truststore is None else truststore.path
            if path not in self._certificates:
                self._certificates[path] = self._load_store(truststore)
            crls: tuple[bytes, ...] = ()
            if crl is not None:
                crls = self._load_crls(crl)
                self.crl_files[name] = crl
            self.trust[name] = TrustAnchors(name, self._certificates[path], crls)
        return name

    def _load_store(self, truststore: NamedFile | None) -> tuple[bytes, ...]:
        if truststore is None:
            bundle = load_system(self._now)
        else:
            try:
                bundle = load_trusted(truststore.path, self._now)
            except FileError as error:
                raise truststore.source.error(str(error)) from None
        source = BUILT_IN if truststore is None else truststore.source
        self.warnings += [Warned(source, reason) for reason in bundle.skipped]
        return tuple(map(der, bundle.certificates))

    def _load_crls(self, crl: NamedFile) -> tuple[bytes, ...]:
        self.stamps[crl.path] = stamp(crl.path)
        try:
            lists = load_crls(crl.path)
        except FileError as error:
            raise crl.source.error(str(error)) from None
        self.warnings += [
            Warned(crl.source, fault) for each in lists if (fault := _date_fault(crl.path, each, self._now))
        ]
        return tuple(map(der, lists))


def load_system(now: datetime) -> Bundle:
    """Load the system's trust store; what is amiss with it is said in `skipped`, and an empty bundle trusts nobody."""
    default = ssl.get_default_verify_paths().cafile
    for path in (*SYSTEM_STORES, *((Path(default),) if default else ())):
        if os.path.exists(path):
            try:
                return load_trusted(path, now)
            except FileError as error:
                return Bundle((), (f"the system's trust store can't be used: {error}",))
    return Bundle((), ("the system has no trust store, so nobody is trusted where none is named",))


def _date_fault(path: Path, crl: CertificateRevocationList, now: datetime) -> str | None:
    since, until = crl.last_update_utc, crl.next_update_utc
    whose = f"{path}: the revocation list of {crl.issuer.rfc4514_string()}"
    if until is not None and until < now:
        return f"{whose} expired on {until:%Y-%m-%d}"
    return f"{whose} is not valid before {since:%Y-%m-%d}" if since > now else None
