"""Early data (0-RTT) in both roles: RFC 8446 sections 2.3, 4.2.10 and 8; over QUIC RFC 9001 section 4.6.

It can be replayed to any server, so a server takes it only fresh and once, and on any doubt goes on without it.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from quic_tlshd.tls.alert import AlertDescription, PeerError
from quic_tlshd.tls.codec import decode_error
from quic_tlshd.tls.events import (
    ClaimEarlyData,
    EarlyDataAccepted,
    EarlyDataOffered,
    EarlyDataRefused,
    Event,
    FoundPsk,
    InstallSecret,
    SkipEarlyData,
)
from quic_tlshd.tls.extensions import Extensions
from quic_tlshd.tls.iana import CipherSuite
from quic_tlshd.tls.iana import ExtensionType as X
from quic_tlshd.tls.key_schedule import EarlySecret
from quic_tlshd.tls.offer import Offer
from quic_tlshd.tls.parameters import (
    EARLY_DATA_WINDOW,
    ClientParameters,
    Direction,
    Level,
    PreSharedKey,
    ServerChoice,
    ServerParameters,
)
from quic_tlshd.tls.ticket import Session
from quic_tlshd.tls.transcript import Transcript

QUIC_MAX_EARLY_DATA = 0xFFFFFFFF
"""The one max_early_data_size that QUIC has; its real limits are transport parameters (RFC 9001 section 4.6.1)."""

_SKIPPED = 2**14  # bytes of early data at least, if we don't know what the client was told


# The server


def receive_early_data(
    parameters: ServerParameters,
    choice: ServerChoice,
    offer: Offer,
    found: FoundPsk | None,
    cipher_suite: CipherSuite,
    transcript: Transcript,
) -> Generator[Event, Any, bool]:
    """Whether the early data that the client offers is taken, and if so, the key for it. `found`: the PSK, None if
    there is none or a HelloRetryRequest comes; `transcript`: of the ClientHello."""
    if not offer.early_data:
        return False
    if found is not None and _may_accept(parameters, choice, offer, found, cipher_suite):
        assert isinstance(found.psk, Session)
        if (yield ClaimEarlyData(offer.psk_binders[0])):
            early_secret = EarlySecret.from_psk(cipher_suite.hash, found.psk.key)
            secret = early_secret.client_early_traffic_secret(transcript.digest())
            yield EarlyDataAccepted(found.psk.max_early_data)
            yield InstallSecret(Level.EARLY, Direction.RECEIVE, cipher_suite, secret)
            return True
    yield SkipEarlyData(max(_SKIPPED, choice.max_early_data))
    return False


def _may_accept(
    parameters: ServerParameters, choice: ServerChoice, offer: Offer, found: FoundPsk, cipher_suite: CipherSuite
) -> bool:
    """The rules of section 4.2.10, of freshness (8.3), and RFC 9000 section 7.4.1: no limit may have become lower."""
    session = found.psk
    if not isinstance(session, Session) or found.index != 0 or not choice.max_early_data or not session.max_early_data:
        return False
    ours = parameters.transport_parameters
    return (
        session.cipher_suite == cipher_suite
        and session.alpn == choice.alpn
        and session.transport_parameters == (b"" if ours is None else remembered(ours))
        and session.skew(offer.psk_ages[0], parameters.now()) <= EARLY_DATA_WINDOW
    )


# The client


def session_for_early_data(parameters: ClientParameters, psks: tuple[PreSharedKey, ...]) -> Session | None:
    """The session that early data can be sent under, if the client wants that."""
    if not parameters.early_data or not psks:
        return None
    session = psks[0]
    if (
        isinstance(session, Session)
        and session.max_early_data
        and session.cipher_suite in parameters.cipher_suites
        and (session.alpn in parameters.alpn if session.alpn else not parameters.alpn)
        and bool(session.transport_parameters) == (parameters.transport_parameters is not None)
    ):
        return session
    return None


def offer_early_data(session: Session, transcript: Transcript) -> Generator[Event, Any, None]:
    """`transcript`: of the ClientHello, which has been sent."""
    suite = session.cipher_suite
    secret = EarlySecret.from_psk(suite.hash, session.key).client_early_traffic_secret(
        transcript.digest_with(b"", suite.hash)
    )
    yield EarlyDataOffered(session.max_early_data, session.alpn, session.transport_parameters)
    yield InstallSecret(Level.EARLY, Direction.SEND, suite, secret)


def read_acceptance(
    extensions: Extensions,
    session: Session | None,
    psk: PreSharedKey | None,
    cipher_suite: CipherSuite,
    alpn: bytes | None,
) -> Generator[Event, Any, bool]:
    """Whether the server takes the early data, as EncryptedExtensions say. session: what was offered for it, None if
    nothing was; psk: what the server selected. Acceptance binds it to the session's parameters (section 4.2.10)."""
    if session is None:
        return False
    body = extensions.get(X.EARLY_DATA)
    if body is None:
        yield EarlyDataRefused()
        return False
    if body:
        raise decode_error("the server's early_data is not empty")
    if psk is not session or cipher_suite != session.cipher_suite or alpn != session.alpn:
        raise PeerError(AlertDescription.ILLEGAL_PARAMETER, "the server takes early data, but changes what it is under")
    yield EarlyDataAccepted(session.max_early_data)
    return True


# QUIC's transport parameters (RFC 9000 section 18.2)

_BINDING = frozenset({0x01, 0x03, *range(0x04, 0x0A), 0x0C, 0x0E, 0x20})
"""max_idle_timeout, max_udp_payload_size, initial_max_*, disable_active_migration, active_connection_id_limit and
max_datagram_frame_size (RFC 9221): what a client remembers and may use up before it hears the server's new ones."""


def remembered(transport_parameters: bytes) -> bytes:
    """Those parameters, in order of their ids, that bind 0-RTT (RFC 9000 section 7.4.1); b"" if there are none or the
    block is malformed, which is the transport's to complain about."""
    kept: dict[int, bytes] = {}
    at = 0
    while at < len(transport_parameters):
        start = at
        kind, at = _varint(transport_parameters, at)
        length, at = _varint(transport_parameters, at)
        at += length
        if at > len(transport_parameters):
            return b""
        if kind in _BINDING:
            kept[kind] = transport_parameters[start:at]
    return b"".join([kept[kind] for kind in sorted(kept)])


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A variable-length integer (RFC 9000 section 16) and the position behind it; beyond the end, there are zeros."""
    first = data[at] if at < len(data) else 0
    end = at + (1 << (first >> 6))
    return int.from_bytes(data[at:end], "big") & ((1 << (8 * (end - at) - 2)) - 1), end
