"""Registry entries from files: registry.d/*.conf, and the ones that tlshd's sections stand for. Monitor only.

Loading reads and changes nothing else: when it fails, what runs goes on as it was.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import IntEnum, StrEnum
from pathlib import Path
from typing import TypeVar

from quic_tlshd.policy import config as configuration
from quic_tlshd.policy.anchors import AnchorLoader
from quic_tlshd.policy.config import Config, ConfigError
from quic_tlshd.policy.credential_loader import CredentialLoader
from quic_tlshd.policy.credentials import Credential
from quic_tlshd.policy.files import Stamp
from quic_tlshd.policy.ini import NamedFile, Section, Source, Warned, load_sections
from quic_tlshd.policy.registry import Entry, Registry, RegistryError
from quic_tlshd.policy.resolve import canonical_name
from quic_tlshd.policy.text import is_address
from quic_tlshd.request import Role
from quic_tlshd.tls.alert import AlertDescription
from quic_tlshd.tls.compression import COMPRESSION_ALGORITHMS
from quic_tlshd.tls.iana import CertificateCompressionAlgorithm, CipherSuite, NamedGroup
from quic_tlshd.tls.parameters import DEFAULT_TICKET_LIFETIME, CertificateChain, ClientCertificate
from quic_tlshd.tls.ticket import MAX_LIFETIME

CodePoint = TypeVar("CodePoint", bound=IntEnum)

_CLIENT_KEYS = (
    "role",
    "alpn",
    "server_name",
    "certificate",
    "private_key",
    "ocsp_response",
    "truststore",
    "crl",
    "cipher_suites",
    "groups",
    "compress_certificate",
    "early_data",
)
_SERVER_KEYS = (*_CLIENT_KEYS, "client_certificate", "mismatch_alert", "tickets", "ticket_lifetime")
_ENTRY_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*", re.ASCII)
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_SERVER_NAME = re.compile(rf"(?:\*\.)?{_LABEL}(?:\.{_LABEL})*", re.ASCII)
MAXIMUM_TICKETS = 8  # that a handshake issues
_MAXIMUM_NAME = 253  # octets of a DNS name in text


class _MismatchAlert(StrEnum):
    UNRECOGNIZED_NAME = "unrecognized_name"
    NO_APPLICATION_PROTOCOL = "no_application_protocol"


@dataclass(frozen=True, slots=True)
class Renewed:
    """crls: files of revocation lists by TrustAnchors.name. responses: files of OCSP responses by CertificateChain.id.
    stamps: of all of them, from before they were read."""

    crls: Mapping[str, NamedFile] = field(default_factory=dict)
    responses: Mapping[str, NamedFile] = field(default_factory=dict)
    stamps: Mapping[Path, Stamp] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Loaded:
    """A registry and the credentials of its certificates, by CertificateChain.id. warnings: what deserves a look.

    renewed: the files that others renew while we run.
    """

    registry: Registry
    credentials: Mapping[str, Credential] = field(repr=False)
    warnings: tuple[Warned, ...] = ()
    renewed: Renewed = field(default_factory=Renewed)


def load(config: Config, now: datetime | None = None) -> Loaded:
    """Load everything that the configuration names; ConfigError with file, line and reason if any of it can't be used.

    now: what dates are judged by.
    """
    loader = _Loader(now or datetime.now(UTC))
    for path in _entry_files(config):
        with loader.gathering():
            for section in load_sections(path):
                with loader.gathering():
                    loader.add(_entry_name(section), section.source, loader.entry(section))
    if config.server.pairs():
        with loader.gathering():
            loader.add_server(config.server)
    with loader.gathering():
        loader.add_client(config.client)
    registry = Registry()
    with loader.gathering():
        registry = loader.registry()
    if loader.errors:
        loader.errors[0].others = tuple(loader.errors[1:])
        raise loader.errors[0]
    anchors, credentials = loader.anchors, loader.credentials
    renewed = Renewed(anchors.crl_files, credentials.response_files, {**anchors.stamps, **credentials.stamps})
    warnings = tuple(loader.warnings + credentials.warnings + anchors.warnings)
    return Loaded(registry, credentials.credentials, warnings, renewed)


class _Loader:
    """What has been loaded so far; files that several entries share are read once."""

    def __init__(self, now: datetime) -> None:
        self.entries: list[Entry] = []
        self.sources: dict[str, Source] = {}
        self.warnings: list[Warned] = []
        self.anchors = AnchorLoader(now)
        self.credentials = CredentialLoader(now)
        self.errors: list[ConfigError] = []

    @contextmanager
    def gathering(self) -> Iterator[None]:
        """Keep a ConfigError for the end, so that one run finds what is wrong in every entry."""
        try:
            yield
        except ConfigError as error:
            self.errors.append(error)

    def registry(self) -> Registry:
        try:
            return Registry(tuple(self.entries), self.anchors.trust, self.credentials.responses)
        except RegistryError as error:
            raise self.sources[error.entry].error(error.reason) from None

    def add(self, name: str, source: Source, entry: Entry) -> None:
        if name in self.sources:
            raise source.error(f"entry {name} is already defined in {self.sources[name]}")
        self.sources[name] = source
        self.entries.append(entry)

    def entry(self, section: Section) -> Entry:
        role = section.choice("role", Role.SERVER)
        section.refuse_unknown(_SERVER_KEYS if role is Role.SERVER else _CLIENT_KEYS)
        alert = section.choice("mismatch_alert", _MismatchAlert.UNRECOGNIZED_NAME)
        certificates = self.credentials.load_section(section)
        client_certificate = section.choice("client_certificate", ClientCertificate.NONE)
        if role is Role.SERVER:
            if not certificates:
                raise section.source.error("a server entry needs a certificate")
            self._check_client_trust(section, client_certificate)
        verifies = role is Role.CLIENT or client_certificate is not ClientCertificate.NONE
        return Entry(
            name=_entry_name(section),
            role=role,
            source=str(section.source),
            alpn=_alpn(section),
            server_name=_server_names(section, role),
            certificates=certificates,
            trust=self._trust(section) if verifies else "",
            client_certificate=client_certificate,
            mismatch_alert=AlertDescription[alert.name],
            cipher_suites=_code_points(section, "cipher_suites", tuple(CipherSuite)),
            groups=_code_points(section, "groups", tuple(NamedGroup)),
            compress_certificate=_compression(section),
            tickets=section.integer("tickets", 0, 0, MAXIMUM_TICKETS) if section.text("tickets") else None,
            ticket_lifetime=section.integer("ticket_lifetime", DEFAULT_TICKET_LIFETIME, 1, MAX_LIFETIME),
            early_data=section.integer("early_data", 0, 0, 0xFFFFFFFF),
        )

    def add_server(self, x509: configuration.X509) -> None:
        """What [authenticate.server] stands for: any ALPN, any name.

        NFSD serves clients with and without a certificate on one port, so a trust store means to ask for one.
        """
        asks = x509.truststore is not None
        entry = Entry(
            name="authenticate.server",
            role=Role.SERVER,
            source=str(x509.source),
            certificates=self._x509_certificates(x509),
            trust=self.anchors.load(x509.truststore, x509.crl) if asks else "",
            client_certificate=ClientCertificate.REQUEST if asks else ClientCertificate.NONE,
        )
        self.add(entry.name, x509.source, entry)

    def add_client(self, x509: configuration.X509) -> None:
        """What [authenticate.client] stands for, also where nothing is set: servers are always verified."""
        entry = Entry(
            name="authenticate.client",
            role=Role.CLIENT,
            source=str(x509.source),
            certificates=self._x509_certificates(x509),
            trust=self.anchors.load(x509.truststore, x509.crl),
        )
        self.add(entry.name, x509.source, entry)

    def _x509_certificates(self, x509: configuration.X509) -> tuple[CertificateChain, ...]:
        return tuple(self.credentials.load(certificate, key) for certificate, key in x509.pairs())

    def _trust(self, section: Section) -> str:
        truststore = None if section.text("truststore") == "system" else section.file("truststore")
        return self.anchors.load(truststore, section.file("crl"))

    def _check_client_trust(self, section: Section, wish: ClientCertificate) -> None:
        for key in ("truststore", "crl"):
            if wish is ClientCertificate.NONE and section.text(key) is not None:
                raise section.source_of(key).error(f"{key} has no use without client_certificate=request or require")
        if wish is not ClientCertificate.NONE and section.text("truststore") in (None, "system"):
            source = section.source_of("truststore")
            self.warnings.append(Warned(source, "every client with a certificate of a public authority is let in"))


def _entry_files(config: Config) -> list[Path]:
    try:
        return sorted(path for path in config.registry.iterdir() if path.suffix == ".conf")
    except (FileNotFoundError, NotADirectoryError):
        if config.registry_source is None:
            return []
        raise config.registry_source.error(f"{config.registry} is not a directory") from None
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise (config.registry_source or Source(config.registry)).error(f"{config.registry}: {reason}") from None


def _entry_name(section: Section) -> str:
    kind, _, name = section.name.partition(" ")
    name = name.strip()
    if kind != "entry" or not _ENTRY_NAME.fullmatch(name):
        raise section.source.error(
            f"[{section.name}] is not [entry NAME] with a NAME of letters, digits, '.', '_', '-'"
        )
    return name


def _alpn(section: Section) -> tuple[bytes, ...]:
    names = section.texts("alpn")
    for name in names:
        # A comma separates names where the kernel takes a list of them.
        if not (name.isascii() and name.isprintable()) or "," in name or len(name) > 255:
            reason = f"alpn has {name!r}: not 1 to 255 printable ASCII characters without ',' and ';'"
            raise section.source_of("alpn").error(reason)
    return tuple(name.encode("ascii") for name in names)


def _server_names(section: Section, role: Role) -> tuple[str, ...]:
    names = section.texts("server_name")
    for name in names:
        source = section.source_of("server_name")
        if not name.isascii():
            raise source.error(f"server_name has {name!r}: write an internationalized name as A-labels (xn--)")
        if is_address(name):
            if role is Role.SERVER:
                raise source.error(f"server_name has {name!r}: a client can't name an address (RFC 6066 section 3)")
        elif len(name) > _MAXIMUM_NAME or not _SERVER_NAME.fullmatch(name.lower()):
            raise source.error(f"server_name has {name!r}: not a DNS name, with '*' as the whole first label at most")
    return tuple(canonical_name(name) for name in names)


def _compression(section: Section) -> tuple[CertificateCompressionAlgorithm, ...]:
    if section.text("compress_certificate") == "none":
        return ()
    return _code_points(section, "compress_certificate", COMPRESSION_ALGORITHMS) or COMPRESSION_ALGORITHMS


def _code_points(section: Section, key: str, ours: tuple[CodePoint, ...]) -> tuple[CodePoint, ...]:
    known = {member.name.lower(): member for member in ours}
    names = section.texts(key)
    for name in names:
        if name.lower() not in known:
            reason = f"{key} has {name!r}, not one of {', '.join(member.name for member in ours)}"
            raise section.source_of(key).error(reason)
    return tuple(known[name.lower()] for name in names)
