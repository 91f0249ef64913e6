"""Pre-shared keys, external ones and those of sessions: the offer, the binders, and which of them a server takes
(RFC 8446 section 4.2.11)."""

from __future__ import annotations

from collections.abc import Generator
from hashlib import sha256
from hmac import compare_digest
from typing import Any

from quic_tlshd.tls.alert import AlertDescription, PeerError
from quic_tlshd.tls.events import Event, FindPsk, FoundPsk
from quic_tlshd.tls.extensions import encode_offered_psks
from quic_tlshd.tls.iana import CipherSuite, PskKeyExchangeMode
from quic_tlshd.tls.key_schedule import EarlySecret, finished_verify_data, hash_length
from quic_tlshd.tls.messages import ClientHello
from quic_tlshd.tls.offer import Offer
from quic_tlshd.tls.parameters import (
    CertificateChain,
    ClientCertificate,
    ClientParameters,
    PreSharedKey,
    Psk,
    ServerChoice,
    ServerParameters,
)
from quic_tlshd.tls.ticket import Session
from quic_tlshd.tls.transcript import Transcript

_MOST_TRIED = 4  # of a client's PSKs that are known here but don't fit
_MOST_SHOWN = 300  # bytes of an identity: one of NVMe has two names and a digest


# The client


def offered_psks(parameters: ClientParameters) -> tuple[PreSharedKey, ...]:
    """What a ClientHello offers: the session first, as early data belongs to the first identity.

    A session is for the same server only (section 4.6.1), whose certificates must still verify, for suites of the same
    hash, and for who would still show the certificate that it was made with; one that does not fit is not offered.
    """
    session = parameters.session
    if session is None or parameters.verify_server is None:
        return parameters.psks
    fits = (
        session.is_alive(parameters.now())
        and session.server_name == parameters.server_name
        and any(suite.hash == session.hash_name for suite in parameters.cipher_suites)
        and bool(session.peer_chain)
        and session.own_certificate in (b"", *[certificate_id(each) for each in parameters.certificates])
    )
    if fits:
        try:
            parameters.verify_server(session.peer_chain, ())
        except PeerError:
            fits = False
    return (session, *parameters.psks) if fits else parameters.psks


def certificate_id(certificate: CertificateChain) -> bytes:
    """What a session remembers of our certificate."""
    return sha256(certificate.chain[0]).digest()


def placeholder(psks: tuple[PreSharedKey, ...], parameters: ClientParameters) -> bytes:
    """The pre_shared_key extension with binders of the right length that are still zeros."""
    identities = tuple([(psk.identity, _obfuscated_age(psk, parameters)) for psk in psks])
    return encode_offered_psks(identities, tuple([bytes(hash_length(psk.hash_name)) for psk in psks]))


def _obfuscated_age(psk: PreSharedKey, parameters: ClientParameters) -> int:
    return psk.obfuscated_age(parameters.now()) if isinstance(psk, Session) else 0  # an external PSK's is 0


def encode_with_binders(hello: ClientHello, psks: tuple[PreSharedKey, ...], transcript: Transcript) -> bytes:
    """The ClientHello's message; its pre_shared_key is that of `placeholder`. `transcript`: of all before it."""
    message = hello.encode()
    if not psks:
        return message
    binders = [bytes(hash_length(psk.hash_name)) for psk in psks]
    partial = message[: -_binders_length(tuple(binders))]
    bound = [_binder(psk, transcript.digest_with(partial, psk.hash_name)) for psk in psks]
    return partial + encode_offered_psks((), tuple(bound))[2:]


# The server


def find_psk(
    parameters: ServerParameters,
    choice: ServerChoice,
    hello: ClientHello,
    offer: Offer,
    message: bytes,
    transcript: Transcript,
) -> Generator[Event, Any, FoundPsk | None]:
    """The first of the client's PSKs that we know and can use, its binder verified; None to go on with a certificate.

    `message`: the ClientHello; `transcript`: of all before it, which is nothing. PSKs that don't fit are passed over.
    """
    if not offer.psk_identities or not (parameters.find_psk or choice.tickets):
        return None
    start, most = 0, len(offer.psk_identities) if has_mode(offer, choice) else 0
    for _ in range(_MOST_TRIED):
        if start >= most:
            break
        answer: FoundPsk | None = yield FindPsk(choice.entry, offer.psk_identities[start:])
        if answer is None:
            break
        found = FoundPsk(start + answer.index, answer.psk)
        start = found.index + 1
        if _fits(found.psk, parameters, choice, hello, offer):
            verify_binder(offer, message, found, transcript)
            if not isinstance(found.psk, Session) or _is_still_trusted(found.psk, choice):
                return found
    if not choice.certificates:
        reason = f"none of the client's PSK identities can be used here: {_shown(offer.psk_identities)}"
        raise PeerError(AlertDescription.UNKNOWN_PSK_IDENTITY, reason)
    return None


def _shown(identities: tuple[bytes, ...]) -> str:
    """For a reason: the first, what isn't printable escaped, and how many more there are."""
    first = repr(identities[0][:_MOST_SHOWN]).removeprefix("b")
    return first if len(identities) == 1 else f"{first} and {len(identities) - 1} more"


def find_again(found: FoundPsk, first: Offer, second: Offer) -> FoundPsk:
    """The PSK in the second ClientHello, which may have dropped others (section 4.1.2)."""
    identity = first.psk_identities[found.index]
    if identity not in second.psk_identities:
        raise PeerError(AlertDescription.ILLEGAL_PARAMETER, "the second ClientHello has lost the PSK")
    return FoundPsk(second.psk_identities.index(identity), found.psk)


def verify_binder(offer: Offer, message: bytes, found: FoundPsk, transcript: Transcript) -> None:
    """decrypt_error unless the client proves that it has the key (section 4.2.11.2); nothing else of its hello may be
    believed for the PSK's sake before. `message`: its ClientHello; `transcript`: of all messages before that."""
    partial = message[: -_binders_length(offer.psk_binders)]
    expected = _binder(found.psk, transcript.digest_with(partial, found.psk.hash_name))
    if not compare_digest(offer.psk_binders[found.index], expected):
        raise PeerError(AlertDescription.DECRYPT_ERROR, "the PSK binder is wrong: the client has another key")


def suites_for(choice: ServerChoice, psk: PreSharedKey) -> tuple[CipherSuite, ...]:
    """What a PSK can be used with: our suites of its hash, a session's own before all (early data needs that one)."""
    suites = [suite for suite in choice.cipher_suites if suite.hash == psk.hash_name]
    if isinstance(psk, Session) and psk.cipher_suite in suites:
        suites.insert(0, psk.cipher_suite)
    return tuple(suites)


def does_dhe(offer: Offer, choice: ServerChoice) -> bool:
    """Whether a PSK can be used with (EC)DHE, which comes before psk_ke for its forward secrecy."""
    return PskKeyExchangeMode.PSK_DHE_KE in offer.psk_modes and not set(choice.groups).isdisjoint(
        offer.supported_groups
    )


def has_mode(offer: Offer, choice: ServerChoice) -> bool:
    """Whether there is a way to use a PSK at all."""
    return PskKeyExchangeMode.PSK_KE in offer.psk_modes or does_dhe(offer, choice)


def _fits(
    psk: PreSharedKey, parameters: ServerParameters, choice: ServerChoice, hello: ClientHello, offer: Offer
) -> bool:
    """Whether a PSK can be used for this hello. Its registry entry is the session's, or the ticket had not opened."""
    if not any(suite in hello.cipher_suites for suite in suites_for(choice, psk)):
        return False
    if isinstance(psk, Psk):
        return parameters.find_psk
    may_resume = choice.tickets > 0 and psk.is_alive(parameters.now()) and psk.server_name == offer.server_name
    if psk.peer_chain:
        return may_resume and choice.client_certificate is not ClientCertificate.NONE
    return may_resume and choice.client_certificate is not ClientCertificate.REQUIRE


def _is_still_trusted(session: Session, choice: ServerChoice) -> bool:
    """Whether the client's certificates, if it showed some, would verify now too."""
    if not session.peer_chain:
        return True
    assert choice.verify_client is not None  # so says ServerChoice, as the client was asked for a certificate
    try:
        choice.verify_client(session.peer_chain, ())
    except PeerError:
        return False
    return True


def _binder(psk: PreSharedKey, transcript_hash: bytes) -> bytes:
    early_secret = EarlySecret.from_psk(psk.hash_name, psk.key)
    binder_key = early_secret.binder_key(external=isinstance(psk, Psk))
    return finished_verify_data(psk.hash_name, binder_key, transcript_hash)


def _binders_length(binders: tuple[bytes, ...]) -> int:
    """Of the encoded list at the ClientHello's end, which the binders themselves do not cover."""
    return 2 + sum(1 + len(binder) for binder in binders)
