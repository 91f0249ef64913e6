"""What `quic-tlshdctl check` finds out: the configuration, its entries and every certificate they show."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from cryptography import x509

from quic_tlshd.control.start import refusals
from quic_tlshd.policy import config as configuration
from quic_tlshd.policy.certificates import key_text
from quic_tlshd.policy.config import ConfigError
from quic_tlshd.policy.credentials import Pace
from quic_tlshd.policy.entries import Loaded, load
from quic_tlshd.policy.ini import Warned
from quic_tlshd.policy.ocsp import must_staple
from quic_tlshd.policy.registry import Entry, alpn_text
from quic_tlshd.request import Role
from quic_tlshd.tls.parameters import CertificateChain

EXPIRES_SOON = 30  # days


class CertificateRow(msgspec.Struct, frozen=True, kw_only=True):
    """A certificate that an entry shows. days_left: whole days until the first of its chain expires, negative after.
    ocsp_until: when the OCSP response that is stapled to it expires, in UTC, or empty."""

    entry: str
    id: str
    subject: str
    names: tuple[str, ...]
    key: str
    schemes: tuple[str, ...]
    chain: int
    not_after: str
    days_left: int
    ocsp_until: str


class EntryRow(msgspec.Struct, frozen=True, kw_only=True):
    """A registry entry in words."""

    name: str
    role: str
    alpn: str
    server_name: tuple[str, ...]
    client_certificate: str
    trust: str
    anchors: int
    source: str


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome. config: the file's absolute path, None for the built-in configuration. errors: what the daemon would
    refuse, or peers would."""

    config: str | None = None
    errors: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    entries: tuple[EntryRow, ...] = ()
    certificates: tuple[CertificateRow, ...] = ()


def check(path: Path | None, now: datetime | None = None) -> Report:
    """Load what the daemon would load and judge it; a fault in it is part of the report, never an exception."""
    now = now or datetime.now(UTC)
    if path is None:
        path = next((candidate for candidate in configuration.SEARCH if os.path.exists(candidate)), None)
    shown = None if path is None else str(path.absolute())
    try:
        config = configuration.load(path)
        warned = config.warnings + refusals(config)
    except ConfigError as error:
        return Report(config=shown, errors=_lines(error))
    try:
        loaded = load(config, now=now)
    except ConfigError as error:
        return Report(config=shown, errors=(*_errors(warned), *_lines(error)), warnings=_warnings(warned))
    warned += loaded.warnings
    rows = [
        _certificate_row(loaded, entry, certificate, now)
        for entry in loaded.registry.entries
        for certificate in entry.certificates
    ]
    suspicious = [
        suspicion
        for entry in loaded.registry.entries
        for suspicion in _suspicions(entry, [row for row in rows if row.entry == entry.name])
    ]
    return Report(
        config=shown,
        errors=_errors(warned),
        warnings=(*_warnings(warned), *suspicious, *_expiring(rows)),
        entries=tuple(_entry_row(loaded, entry) for entry in loaded.registry.entries),
        certificates=tuple(rows),
    )


def _lines(error: ConfigError) -> tuple[str, ...]:
    return tuple(map(str, (error, *error.others)))


def _errors(warned: tuple[Warned, ...]) -> tuple[str, ...]:
    return tuple(str(warning) for warning in warned if warning.severe)


def _warnings(warned: tuple[Warned, ...]) -> tuple[str, ...]:
    return tuple(str(warning) for warning in warned if not warning.severe)


def _suspicions(entry: Entry, rows: list[CertificateRow]) -> Iterator[str]:
    """What loads, and yet hardly is what was meant: peers will refuse it, or never ask for it."""
    where = f"{entry.source}: entry {entry.name}"
    for what, values in (("ALPN", [name.decode() for name in entry.alpn]), ("server name", entry.server_name)):
        for value in values:
            if "#" in value or any(map(str.isspace, value)):
                yield f"{where}: the {what} {value!r} has a blank or '#' in it: comments are lines of their own"
    if entry.role is not Role.SERVER:
        return
    for row in rows:
        if not row.names:
            yield f"{where}: the certificate of {row.subject} has no subjectAltName: clients will refuse it"
    for row, certificate in zip(rows, entry.certificates, strict=True):
        if not row.ocsp_until and must_staple(x509.load_der_x509_certificate(certificate.chain[0])):
            yield f"{where}: the certificate of {row.subject} needs an OCSP response: clients will refuse it without"
    names = {name.lower() for row in rows for name in row.names}
    for pattern in entry.server_name if names else ():
        if pattern not in names and f"*.{pattern.partition('.')[2]}" not in names:
            yield f"{where}: no certificate of it is for the server name {pattern}: clients will refuse what it shows"


def _expiring(rows: list[CertificateRow]) -> list[str]:
    return [
        f"entry {row.entry}: {row.subject} expires in {row.days_left} days, on {row.not_after}"
        for row in rows
        if 0 <= row.days_left < EXPIRES_SOON
    ]


def _certificate_row(loaded: Loaded, entry: Entry, certificate: CertificateChain, now: datetime) -> CertificateRow:
    response = loaded.registry.responses.get(certificate.id)
    in_token = loaded.credentials[certificate.id].pace is Pace.ANY
    members = [x509.load_der_x509_certificate(der) for der in certificate.chain]
    until = min(member.not_valid_after_utc for member in members)
    return CertificateRow(
        entry=entry.name,
        id=certificate.id,
        subject=members[0].subject.rfc4514_string(),
        names=_names(members[0]),
        key=key_text(members[0]) + (" in a token" if in_token else ""),
        schemes=tuple(scheme.name.lower() for scheme in certificate.schemes),
        chain=len(members),
        not_after=f"{until:%Y-%m-%d}",
        days_left=(until - now).days,
        ocsp_until="" if response is None else f"{datetime.fromtimestamp(response.until, UTC):%Y-%m-%d %H:%M}",
    )


def _names(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    return tuple(str(name.value) for name in names)


def _entry_row(loaded: Loaded, entry: Entry) -> EntryRow:
    anchors = loaded.registry.trust.get(entry.trust)
    return EntryRow(
        name=entry.name,
        role=entry.role.value,
        alpn=alpn_text(entry.alpn),
        server_name=entry.server_name,
        client_certificate=entry.client_certificate.value,
        trust=entry.trust,
        anchors=0 if anchors is None else len(anchors.certificates),
        source=entry.source,
    )
