"""From the command line to what the engine is told, by way of a registry: what the daemon's workers and monitor do,
in one process."""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes

from quic_tlshd.endpoint.interface import Settings
from quic_tlshd.policy import entries
from quic_tlshd.policy.anchors import AnchorLoader
from quic_tlshd.policy.config import X509, Config, Debug, NamedFile, Source, Upcall, Worker
from quic_tlshd.policy.credentials import load_credential
from quic_tlshd.policy.ini import BUILT_IN
from quic_tlshd.policy.registry import Entry, Registry
from quic_tlshd.policy.resolve import canonical_name
from quic_tlshd.request import AuthMode, HandshakeRequest, Role
from quic_tlshd.tls.alert import AlertDescription, PeerError
from quic_tlshd.tls.iana import PskKeyExchangeMode
from quic_tlshd.tls.parameters import (
    CertificateChain,
    ClientCertificate,
    ClientParameters,
    ServerChoice,
    ServerParameters,
)
from quic_tlshd.tls.ticket import Session
from quic_tlshd.tools.keys import Keys
from quic_tlshd.tools.options import psk_of
from quic_tlshd.worker.policy import Policy, Seen

_COMMAND_LINE = Source(Path("the command line"))


@dataclass(frozen=True)
class Setup:
    """What stays the same for all connections. warnings: of the files that were loaded."""

    options: argparse.Namespace
    role: Role
    registry: Registry
    keys: Keys = field(repr=False)
    policy: Policy = field(repr=False)
    warnings: tuple[str, ...] = ()

    @classmethod
    def load(cls, options: argparse.Namespace, role: Role) -> Setup:
        """ConfigError or CredentialError if a file can't be used."""
        if options.registry is not None:
            loaded = entries.load(_only_entries(options.registry))
            warnings = tuple(map(str, loaded.warnings))
            keys = Keys(role, loaded.credentials, psk_of(options))
            return cls(options, role, loaded.registry, keys, Policy(loaded.registry), warnings)
        credentials = [load_credential(*pair) for pair in _files(options)]
        registry, warnings = _registry(options, role, tuple([credential.chain for credential in credentials]))
        keys = Keys(role, {credential.chain.id: credential for credential in credentials}, psk_of(options))
        return cls(options, role, registry, keys, Policy(registry), warnings)

    def keep(self, session: bytes) -> None:
        """A client's -sess_out; the latest session is the one to resume."""
        path: Path | None = self.options.sess_out
        if path is not None:
            path.touch(mode=0o600)
            path.write_bytes(session)

    def server_parameters(self, settings: Settings, seen: Seen) -> ServerParameters:
        options = self.options
        parameters = self.policy.server_parameters(self._request(), settings, seen)

        def choose(server_name: str | None, alpn: tuple[bytes, ...]) -> ServerChoice:
            choice = parameters.choose(server_name, alpn)
            choice = replace(choice, tickets=options.num_tickets, max_early_data=options.max_early_data)
            if options.noverify:
                choice = replace(choice, verify_client=_take_any)
            if not options.sigalgs:
                return choice
            certificates = self._signing(choice.certificates)
            return replace(choice, certificates=certificates, signature_schemes=options.sigalgs)

        return replace(parameters, choose=choose, find_psk=options.psk is not None, now=time.time)

    def client_parameters(self, settings: Settings, seen: Seen) -> ClientParameters:
        """EndpointError if the registry has no entry for the server."""
        options = self.options
        parameters = self.policy.client_parameters(self._request(), settings, seen)
        parameters = replace(
            parameters,
            server_name=None if options.noservername else options.servername or parameters.server_name,
            compatibility_mode=parameters.compatibility_mode and not options.no_middlebox,
            tickets=not options.no_ticket,
            early_data=bool(options.early_data),
            session=Session.decode(options.sess_in),
            now=time.time,
        )
        if options.allow_no_dhe_kex:
            parameters = replace(parameters, psk_modes=tuple(PskKeyExchangeMode))
        if options.noverify:
            parameters = replace(parameters, verify_server=_take_any)
        if options.sigalgs:
            certificates = self._signing(parameters.certificates)
            parameters = replace(parameters, certificates=certificates, signature_schemes=options.sigalgs)
        if options.key_shares:
            parameters = replace(parameters, key_shares=options.key_shares)
        psk = psk_of(options)
        return parameters if psk is None else replace(parameters, psks=(psk,))

    def _request(self) -> HandshakeRequest:
        options = self.options
        is_client = self.role is Role.CLIENT
        return HandshakeRequest(
            id=0,
            role=self.role,
            auth_mode=AuthMode.X509,
            deadline=time.monotonic() + options.timeout,
            peer="",
            peername=canonical_name(options.verify_hostname or options.connect[0]) if is_client else None,
            alpn=options.alpn if is_client else (),
            entries=tuple([entry.name for entry in self.registry.entries if entry.role is self.role]),
        )

    def _signing(self, chains: tuple[CertificateChain, ...]) -> tuple[CertificateChain, ...]:
        """Those that can sign with the schemes of -sigalgs, and with those only."""
        narrowed = [
            replace(chain, schemes=tuple([scheme for scheme in self.options.sigalgs if scheme in chain.schemes]))
            for chain in chains
        ]
        return tuple([chain for chain in narrowed if chain.schemes])


def _only_entries(directory: Path) -> Config:
    """The built-in configuration, with the entries in that directory."""
    no_x509 = X509(BUILT_IN)
    upcall, worker = Upcall(Path()), Worker(0)
    return Config(None, Debug(), (), no_x509, no_x509, upcall, worker, directory, _COMMAND_LINE)


def _files(options: argparse.Namespace) -> list[tuple[Path, Path]]:
    keys = options.key or options.cert
    if len(keys) != len(options.cert):
        raise _COMMAND_LINE.error("-key is to be given as often as -cert, or not at all")
    return list(zip(options.cert, keys, strict=True))


def _registry(
    options: argparse.Namespace, role: Role, certificates: tuple[CertificateChain, ...]
) -> tuple[Registry, tuple[str, ...]]:
    """One entry, for any server name."""
    anchors = AnchorLoader(datetime.now(UTC))
    wish: ClientCertificate = options.client_certificate if role is Role.SERVER else ClientCertificate.NONE
    verifies = role is Role.CLIENT or wish is not ClientCertificate.NONE
    entry = Entry(
        name="command-line",
        role=role,
        source=str(_COMMAND_LINE),
        alpn=options.alpn if role is Role.SERVER else (),
        certificates=certificates,
        trust=anchors.load(_named(options.CAfile), _named(options.CRL)) if verifies else "",
        client_certificate=wish,
        cipher_suites=options.ciphersuites,
        groups=options.groups,
    )
    return Registry((entry,), anchors.trust), tuple(map(str, anchors.warnings))


def _named(path: Path | None) -> NamedFile | None:
    return None if path is None else NamedFile(path, _COMMAND_LINE)


def _take_any(chain: tuple[bytes, ...], _: tuple[bytes, ...]) -> CertificatePublicKeyTypes:
    """-noverify: whoever has the key of the certificate is as good as anybody."""
    try:
        return x509.load_der_x509_certificate(chain[0]).public_key()
    except (ValueError, UnsupportedAlgorithm):
        raise PeerError(AlertDescription.BAD_CERTIFICATE, "the certificate can't be parsed") from None
