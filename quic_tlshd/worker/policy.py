"""From a request and the registry to what the engine is told: the worker's half of the policy."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from errno import EACCES, EINVAL
from time import time

from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes

from quic_tlshd.endpoint.interface import EndpointError, Settings
from quic_tlshd.policy.registry import Entry, Registry
from quic_tlshd.policy.resolve import choose_client, choose_server
from quic_tlshd.policy.text import alpn_text, is_address
from quic_tlshd.policy.trust import TrustStore
from quic_tlshd.request import PSK, AuthMode, HandshakeRequest, Role
from quic_tlshd.tls.alert import AlertDescription, PeerError
from quic_tlshd.tls.iana import CipherSuite, NamedGroup, PskKeyExchangeMode
from quic_tlshd.tls.parameters import (
    DEFAULT_CIPHER_SUITES,
    DEFAULT_GROUPS,
    CertificateChain,
    ClientCertificate,
    ClientParameters,
    ServerChoice,
    ServerParameters,
    VerifyChain,
)
from quic_tlshd.tls.ticket import Session
from quic_tlshd.worker.key_shares import KeyShares


@dataclass
class Seen:
    """What is known of a handshake so far; the log wants it above all when the handshake fails."""

    peer: str = ""
    alpn_offered: tuple[bytes, ...] = ()
    server_name: str | None = None
    alpn: bytes | None = None
    entry: str | None = None


_MAXIMUM_AUTHORITIES = 4096  # bytes
_SMALL_TICKET = 512  # bytes


class Policy:
    """One registry with its trust stores. A store is taken over from the policy before if its anchors are the same, and
    with it the chains that it remembers as verified."""

    def __init__(self, registry: Registry, before: Policy | None = None) -> None:
        self._entries = {entry.name: entry for entry in registry.entries}
        self._anchors = registry.trust
        self._responses = registry.responses
        self._key_shares: KeyShares = before._key_shares if before else KeyShares()
        self._stores: dict[str, TrustStore] = {}
        for name, anchors in registry.trust.items():
            unchanged = before is not None and before._anchors.get(name) == anchors
            self._stores[name] = before._stores[name] if before and unchanged else TrustStore(anchors)

    def server_parameters(self, request: HandshakeRequest, settings: Settings, seen: Seen) -> ServerParameters:
        allowed = settings.alpn or request.alpn
        if request.auth_mode is AuthMode.PSK:
            return _psk_server(allowed, settings, seen)
        entries = self._entries_of(request)

        def choose(server_name: str | None, offered: tuple[bytes, ...]) -> ServerChoice:
            seen.server_name, seen.alpn_offered = server_name, offered
            entry, alpn = choose_server(entries, server_name, offered, allowed)
            wish = settings.client_certificate or entry.client_certificate
            asks = wish is not ClientCertificate.NONE
            return ServerChoice(
                entry.name,
                alpn,
                self._stapled(request.certificates or entry.certificates),
                wish,
                self._client_verifier(entry) if asks else None,
                _served(entry.cipher_suites, settings),
                entry.groups or DEFAULT_GROUPS,
                certificate_authorities=self._authorities(entry) if asks else (),
                compression=entry.compress_certificate,
                tickets=settings.tickets if entry.tickets is None else entry.tickets,
                ticket_lifetime=entry.ticket_lifetime,
                max_early_data=entry.early_data if settings.early_data else 0,
            )

        return ServerParameters(choose, settings.transport_parameters, settings.record_size_limit, now=time)

    def client_parameters(self, request: HandshakeRequest, settings: Settings, seen: Seen) -> ClientParameters:
        """EndpointError: EACCES if the registry has no entry for the request, EINVAL if no cipher suite is left."""
        seen.alpn_offered = alpn = settings.alpn or request.alpn
        if request.auth_mode is AuthMode.PSK:
            return _psk_client(request, alpn, settings, self._key_shares)
        try:
            entry = choose_client(self._entries_of(request), alpn, request.peername)
        except LookupError as error:
            raise EndpointError(EACCES, str(error)) from None
        if request.peername is None:
            raise EndpointError(EACCES, "the request names no server that could be verified")
        shows = request.auth_mode is AuthMode.X509 and settings.present_certificate
        groups = entry.groups or DEFAULT_GROUPS
        return ClientParameters(
            entry.name,
            self._server_verifier(entry, request.peername),
            _server_name(request),
            alpn,
            self._stapled(request.certificates or entry.certificates) if shows else (),
            settings.transport_parameters,
            _offered(_usable(entry.cipher_suites, settings)),
            groups,
            key_shares=self._key_shares.predict(
                entry.name, request.peername, groups, small=settings.small_client_hello
            ),
            compatibility_mode=settings.transport_parameters is None,
            record_size_limit=settings.record_size_limit,
            compression=entry.compress_certificate,
            psk_modes=_psk_modes(settings),
            session=_session(settings),
            tickets=settings.session_wait > 0,
            early_data=settings.early_data and entry.early_data > 0,
            now=time,
        )

    def remember_group(self, request: HandshakeRequest, entry: str, group: NamedGroup | None) -> None:
        """What a handshake used, for a client's next one with the same server."""
        if request.role is Role.CLIENT and group is not None:
            self._key_shares.remember(entry, request.peername, group)

    def _entries_of(self, request: HandshakeRequest) -> tuple[Entry, ...]:
        return tuple([self._entries[name] for name in request.entries if name in self._entries])

    def _stapled(self, certificates: tuple[CertificateChain, ...]) -> tuple[CertificateChain, ...]:
        """The certificates, with the OCSP responses that are still valid."""
        if not self._responses:
            return certificates
        now = time()
        found = [(certificate, self._responses.get(certificate.id)) for certificate in certificates]
        return tuple(
            [
                certificate
                if response is None or response.until < now
                else replace(certificate, ocsp_response=response.der)
                for certificate, response in found
            ]
        )

    def _server_verifier(self, entry: Entry, name: str) -> VerifyChain:
        store = self._stores[entry.trust]

        def verify(chain: tuple[bytes, ...], ocsp_responses: tuple[bytes, ...]) -> CertificatePublicKeyTypes:
            return store.verify_server(chain, name, datetime.now(UTC), ocsp_responses)

        return verify

    def _client_verifier(self, entry: Entry) -> VerifyChain:
        store = self._stores.get(entry.trust)
        if store is None:
            reason = f"a client certificate is wanted, and entry {entry.name} has no trust store to verify it with"
            raise PeerError(AlertDescription.INTERNAL_ERROR, reason)

        def verify(chain: tuple[bytes, ...], _: tuple[bytes, ...]) -> CertificatePublicKeyTypes:
            return store.verify_client(chain, datetime.now(UTC))

        return verify

    def _authorities(self, entry: Entry) -> tuple[bytes, ...]:
        """The names of whom a client's certificate may be from; none if they are many: they go into each handshake."""
        names = self._stores[entry.trust].names
        return names if sum(map(len, names)) <= _MAXIMUM_AUTHORITIES else ()


def _psk_server(allowed: tuple[bytes, ...], settings: Settings, seen: Seen) -> ServerParameters:
    """A server that has nothing to show but the knowledge of a pre-shared key."""

    def choose(server_name: str | None, offered: tuple[bytes, ...]) -> ServerChoice:
        seen.server_name, seen.alpn_offered = server_name, offered
        alpn = next((protocol for protocol in allowed if protocol in offered), None)
        if allowed and offered and alpn is None:
            reason = f"the client offers ALPN {alpn_text(offered)}, served is {alpn_text(allowed)}"
            raise PeerError(AlertDescription.NO_APPLICATION_PROTOCOL, reason)
        return ServerChoice(PSK, alpn, (), cipher_suites=_served((), settings))

    return ServerParameters(choose, settings.transport_parameters, settings.record_size_limit, find_psk=True)


def _session(settings: Settings) -> Session | None:
    """What a client may resume; not with a ticket that a small ClientHello has no room for."""
    session = Session.decode(settings.session)
    if session is not None and settings.small_client_hello and len(session.identity) > _SMALL_TICKET:
        return None
    return session


def _psk_modes(settings: Settings) -> tuple[PskKeyExchangeMode, ...]:
    """Over QUIC psk_ke too, which is all that some servers do there."""
    over_quic = settings.transport_parameters is not None
    return (PskKeyExchangeMode.PSK_DHE_KE, *([PskKeyExchangeMode.PSK_KE] if over_quic else []))


def _psk_client(
    request: HandshakeRequest, alpn: tuple[bytes, ...], settings: Settings, key_shares: KeyShares
) -> ClientParameters:
    """All identities in one ClientHello."""
    hashes = {psk.hash_name for psk in request.psks}
    suites = _usable((), settings)
    return ClientParameters(
        PSK,
        None,
        _server_name(request),
        alpn,
        transport_parameters=settings.transport_parameters,
        cipher_suites=_offered(tuple([suite for suite in suites if suite.hash in hashes])),
        key_shares=key_shares.predict(PSK, request.peername, DEFAULT_GROUPS, small=settings.small_client_hello),
        compatibility_mode=settings.transport_parameters is None,
        record_size_limit=settings.record_size_limit,
        psks=request.psks,
        psk_modes=_psk_modes(settings),
    )


def _server_name(request: HandshakeRequest) -> str | None:
    """What a client sends as SNI, which has no addresses (RFC 6066 section 3)."""
    name = request.peername
    return None if name is None or is_address(name) else name


def _usable(suites: tuple[CipherSuite, ...], settings: Settings) -> tuple[CipherSuite, ...]:
    """Of the entry's suites (the default ones if it names none) those that the transport can protect packets with."""
    return tuple(
        [
            suite
            for suite in suites or DEFAULT_CIPHER_SUITES
            if not settings.cipher_suites or suite in settings.cipher_suites
        ]
    )


_NO_SUITE = "no cipher suite is both the transport's and allowed here"


def _offered(suites: tuple[CipherSuite, ...]) -> tuple[CipherSuite, ...]:
    """A client's suites; EndpointError(EINVAL) where a ClientHello would have none."""
    if not suites:
        raise EndpointError(EINVAL, _NO_SUITE)
    return suites


def _served(suites: tuple[CipherSuite, ...], settings: Settings) -> tuple[CipherSuite, ...]:
    """A server's suites; PeerError(handshake_failure) where there are none, whatever the client offers."""
    usable = _usable(suites, settings)
    if not usable:
        raise PeerError(AlertDescription.HANDSHAKE_FAILURE, _NO_SUITE)
    return usable
