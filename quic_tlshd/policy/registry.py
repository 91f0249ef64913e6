"""The registry: which credentials and which policy go with a role, an ALPN and a server name.

Immutable: an edit gives a new registry, and a handshake keeps the entries it began with. It crosses to the workers as
msgpack and holds public parts only: certificates, never keys.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
from msgspec.structs import replace

from quic_tlshd.policy.text import alpn_text as alpn_text
from quic_tlshd.request import Role
from quic_tlshd.tls.alert import AlertDescription
from quic_tlshd.tls.compression import COMPRESSION_ALGORITHMS
from quic_tlshd.tls.iana import CertificateCompressionAlgorithm, CipherSuite, NamedGroup
from quic_tlshd.tls.parameters import DEFAULT_TICKET_LIFETIME, CertificateChain, ClientCertificate


class RegistryError(ValueError):
    """Entries that can't stand in one registry. entry: the later of the two, or the one at fault."""

    def __init__(self, entry: str, reason: str) -> None:
        super().__init__(reason)
        self.entry = entry
        self.reason = reason


class TrustAnchors(msgspec.Struct, frozen=True):
    """What a peer's chain must lead to, and the revocation lists to ask; all DER. name: the files it came from."""

    name: str
    certificates: tuple[bytes, ...] = ()
    crls: tuple[bytes, ...] = ()


class OcspResponse(msgspec.Struct, frozen=True):
    """What is stapled to a certificate of ours. until: when it expires, in seconds since the epoch."""

    der: bytes
    until: float


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One row: what it is for (role, alpn, server_name) and what is then done.

    alpn: empty for any, and for handshakes without ALPN. server_name: lower case, exact or with `*` as the whole
    left-most label; empty for the default, which also serves whoever names no server. certificates: the first one that
    the peer can verify is shown. trust: a key of Registry.trust, empty on a server that asks for no certificate.
    mismatch_alert: for a ClientHello whose ALPN fits while no entry fits its server name. cipher_suites, groups: empty
    for the defaults. compress_certificate: of both sides' Certificate messages. tickets: how many session tickets a
    server issues, None for what the transport wants; 0 resumes no session either. ticket_lifetime: in seconds.
    early_data: bytes, 0 to do without. source: `file:line`.
    """

    name: str
    role: Role
    source: str
    alpn: tuple[bytes, ...] = ()
    server_name: tuple[str, ...] = ()
    certificates: tuple[CertificateChain, ...] = ()
    trust: str = ""
    client_certificate: ClientCertificate = ClientCertificate.NONE
    mismatch_alert: AlertDescription = AlertDescription.UNRECOGNIZED_NAME
    cipher_suites: tuple[CipherSuite, ...] = ()
    groups: tuple[NamedGroup, ...] = ()
    compress_certificate: tuple[CertificateCompressionAlgorithm, ...] = COMPRESSION_ALGORITHMS
    tickets: int | None = None
    ticket_lifetime: int = DEFAULT_TICKET_LIFETIME
    early_data: int = 0

    def pairs(self) -> Iterator[tuple[bytes | None, str | None]]:
        """Every (ALPN, server name pattern) that the entry claims; None stands for any and for the default."""
        for alpn in self.alpn or (None,):
            for pattern in self.server_name or (None,):
                yield alpn, pattern


class Registry(msgspec.Struct, frozen=True):
    """All entries, the trust anchors they refer to, and the OCSP responses for their certificates, by
    CertificateChain.id. RegistryError if two entries claim the same."""

    entries: tuple[Entry, ...] = ()
    trust: dict[str, TrustAnchors] = {}
    responses: dict[str, OcspResponse] = {}

    def __post_init__(self) -> None:
        names: dict[str, Entry] = {}
        claims: dict[tuple[Role, bytes | None, str | None], Entry] = {}
        for entry in self.entries:
            if (same := names.setdefault(entry.name, entry)) is not entry:
                raise RegistryError(entry.name, f"entry {entry.name} is already defined in {same.source}")
            if entry.trust and entry.trust not in self.trust:
                raise RegistryError(entry.name, f"entry {entry.name} has trust anchors that are not there")
            for pair in entry.pairs():
                if (other := claims.setdefault((entry.role, *pair), entry)) is not entry:
                    raise RegistryError(entry.name, _overlap(entry, other, *pair))

    def entry(self, name: str) -> Entry | None:
        """The entry of that name."""
        return next((entry for entry in self.entries if entry.name == name), None)

    def with_entry(self, entry: Entry, anchors: TrustAnchors | None = None) -> Registry:
        """This registry with one entry more, and the trust anchors that it names if they are new."""
        trust = self.trust if anchors is None else {**self.trust, anchors.name: anchors}
        return replace(self, entries=(*self.entries, entry), trust=trust)

    def without_entry(self, name: str) -> Registry:
        """This registry without that entry and without trust anchors that nothing uses any more.

        RegistryError if there is no such entry.
        """
        entries = tuple(entry for entry in self.entries if entry.name != name)
        if len(entries) == len(self.entries):
            raise RegistryError(name, f"there is no entry {name}")
        used = {entry.trust for entry in entries}
        trust = {key: anchors for key, anchors in self.trust.items() if key in used}
        return replace(self, entries=entries, trust=trust)


def _overlap(entry: Entry, other: Entry, alpn: bytes | None, pattern: str | None) -> str:
    what = "any ALPN" if alpn is None else f"ALPN {alpn_text((alpn,))}"
    name = "the default server name" if pattern is None else f"server name {pattern}"
    return (
        f"entry {entry.name} ({entry.source}) and entry {other.name} ({other.source}) "
        f"both serve {what} with {name} as {entry.role.value}"
    )
