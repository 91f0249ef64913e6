"""The server's handshake, top to bottom, in the order of RFC 8446.

Client                                           Server

ClientHello          -------->
                     <--------       HelloRetryRequest      only if no key share is of a group that we take
ClientHello          -------->
(early data*)
                                           ServerHello
                                 {EncryptedExtensions}
                                 {CertificateRequest*}      if the registry entry wants a client certificate
                                        {Certificate*}      unless both have a PSK, or a session to resume
                                  {CertificateVerify*}      signed by whoever holds the key, not by this process
                     <--------              {Finished}
(EndOfEarlyData*)                                           if early data was accepted, but never over QUIC
{Certificate*}
{CertificateVerify*}
{Finished}           -------->
                     <--------     [NewSessionTicket*]      sealed by whoever holds the ticket key
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, TypeVar

from quic_tlshd.tls.alert import AlertDescription, PeerError
from quic_tlshd.tls.authentication import (
    CERTIFICATE_TYPES,
    certificate_message,
    receive_authentication,
    receive_finished,
)
from quic_tlshd.tls.compression import compress
from quic_tlshd.tls.early_data import receive_early_data
from quic_tlshd.tls.engine import Handshake, receive
from quic_tlshd.tls.events import (
    Complete,
    Event,
    InstallSecret,
    PeerRecordSizeLimit,
    PeerTransportParameters,
    Selected,
    SendMessage,
    Sign,
)
from quic_tlshd.tls.extensions import (
    HELLO_RETRY_REQUEST,
    Extensions,
    encode_alpn,
    encode_certificate_authorities,
    encode_compress_certificate,
    encode_key_share_entry,
    encode_uint16_list,
)
from quic_tlshd.tls.iana import TLS_1_3, CipherSuite, HandshakeType, NamedGroup, SignatureScheme
from quic_tlshd.tls.iana import ExtensionType as X
from quic_tlshd.tls.key_exchange import respond
from quic_tlshd.tls.key_schedule import EarlySecret, finished_verify_data, hash_length
from quic_tlshd.tls.messages import (
    HELLO_RETRY_REQUEST_RANDOM,
    CertificateRequest,
    CertificateVerify,
    ClientHello,
    EncryptedExtensions,
    EndOfEarlyData,
    Finished,
    ServerHello,
)
from quic_tlshd.tls.offer import Offer, read_offer
from quic_tlshd.tls.parameters import (
    CertificateChain,
    ClientCertificate,
    Direction,
    Level,
    ServerChoice,
    ServerParameters,
)
from quic_tlshd.tls.psk import does_dhe, find_again, find_psk, has_mode, suites_for, verify_binder
from quic_tlshd.tls.resumption import begin_session, receive_nothing, send_tickets
from quic_tlshd.tls.selection import choose_certificate
from quic_tlshd.tls.ticket import Session
from quic_tlshd.tls.transcript import Transcript

_SELECTED_TLS_1_3 = TLS_1_3.to_bytes(2, "big")

T = TypeVar("T", CipherSuite, NamedGroup)


def server_handshake(parameters: ServerParameters) -> Handshake:
    over_quic = parameters.transport_parameters is not None

    # ClientHello: what the client can do and whom it wants to talk to. The registry chooses who answers.
    message = yield from receive(HandshakeType.CLIENT_HELLO)
    hello = ClientHello.decode(message)
    offer = read_offer(hello, over_quic=over_quic)
    choice = parameters.choose(offer.server_name, offer.alpn)
    if over_quic and offer.alpn and choice.alpn is None:  # RFC 9001 section 8.1
        raise PeerError(AlertDescription.NO_APPLICATION_PROTOCOL, "nothing says which of the client's ALPNs is served")

    # A pre-shared key of the client's that we know, maybe a session's, comes before our certificate (section 4.2.11).
    transcript = Transcript()
    found = yield from find_psk(parameters, choice, hello, offer, message, transcript)
    if found is None:
        cipher_suite = _first_common(choice.cipher_suites, hello.cipher_suites, "cipher suite")
        certificate, scheme = _choose_certificate(choice, offer)
    else:
        cipher_suite = _first_common(suites_for(choice, found.psk), hello.cipher_suites, "cipher suite")
    resumed = found.psk if found is not None and isinstance(found.psk, Session) else None
    transcript.start(cipher_suite.hash)
    transcript.add(message)
    yield Selected(choice.alpn, offer.server_name, choice.entry)

    # Early data is not for a handshake with a HelloRetryRequest, which we send only if there is a group in common, but
    # no share of one (sections 4.2.10 and 4.1.4).
    group = _choose_group(choice.groups, offer) if found is None or does_dhe(offer, choice) else None
    is_retry = group is not None and group not in offer.key_shares
    early_data = yield from receive_early_data(
        parameters, choice, offer, None if is_retry else found, cipher_suite, transcript
    )
    if group is not None and is_retry:
        message, hello, second = yield from _retry(parameters, hello, cipher_suite, group, transcript)
        if found is not None:
            found = find_again(found, offer, second)
            verify_binder(second, message, found, transcript)
        offer = second
        transcript.add(message)
    if offer.transport_parameters is not None:
        yield PeerTransportParameters(offer.transport_parameters)

    # ServerHello: the key exchange. All that follows is encrypted.
    extensions: Extensions = {}
    shared_secret = bytes(hash_length(cipher_suite.hash))  # what stands for it after psk_ke (section 7.1)
    if group is not None:
        share, shared_secret = respond(group, offer.key_shares[group], parameters.generate)
        extensions[X.KEY_SHARE] = encode_key_share_entry(group, share)
    extensions[X.SUPPORTED_VERSIONS] = _SELECTED_TLS_1_3
    early_secret = EarlySecret.no_psk(cipher_suite.hash)
    if found is not None:
        extensions[X.PRE_SHARED_KEY] = found.index.to_bytes(2, "big")
        early_secret = EarlySecret.from_psk(cipher_suite.hash, found.psk.key)
    extensions = parameters.arrange(HandshakeType.SERVER_HELLO, extensions)
    server_hello = ServerHello(parameters.random(32), hello.legacy_session_id, cipher_suite, extensions).encode()
    transcript.add(server_hello)
    transcript_hash = transcript.digest()
    handshake_secret = early_secret.handshake_secret(shared_secret)
    client_secret = handshake_secret.client_handshake_traffic_secret(transcript_hash)
    server_secret = handshake_secret.server_handshake_traffic_secret(transcript_hash)
    receive_secret = InstallSecret(Level.HANDSHAKE, Direction.RECEIVE, cipher_suite, client_secret)
    yield SendMessage(Level.INITIAL, server_hello)
    yield InstallSecret(Level.HANDSHAKE, Direction.SEND, cipher_suite, server_secret)
    if over_quic or not early_data:  # else the records that come are early data until it has ended
        yield receive_secret

    if offer.record_size_limit is not None and parameters.record_size_limit is not None:
        yield PeerRecordSizeLimit(offer.record_size_limit)

    # EncryptedExtensions to Finished: one flight, held until the signature is there. A PSK is all the authentication
    # that its handshake has.
    flight = _encrypted_extensions(parameters, offer, choice, early_data=early_data)
    if found is None:
        if choice.client_certificate is not ClientCertificate.NONE:
            flight += _certificate_request(parameters, choice)
        flight += compress(
            certificate_message(certificate, stapled=offer.criteria.status_request),
            choice.compression,
            offer.criteria.compress_certificate,
        )
        transcript.add(flight)
        signature = yield Sign(certificate, scheme, transcript.digest())
        certificate_verify = CertificateVerify(scheme, signature).encode()
        transcript.add(certificate_verify)
        flight += certificate_verify
    else:
        transcript.add(flight)
    finished = Finished(finished_verify_data(cipher_suite.hash, server_secret, transcript.digest())).encode()
    transcript.add(finished)
    yield SendMessage(Level.HANDSHAKE, flight + finished)

    # The application secrets cover everything up to our Finished (section 7.1); we may send with them at once.
    transcript_hash = transcript.digest()
    master_secret = handshake_secret.master_secret()
    yield InstallSecret(
        Level.APP, Direction.SEND, cipher_suite, master_secret.server_application_traffic_secret_0(transcript_hash)
    )

    # EndOfEarlyData, which QUIC does without (RFC 9001 section 8.3).
    if early_data and not over_quic:
        message = yield from receive(HandshakeType.END_OF_EARLY_DATA)
        EndOfEarlyData.decode(message)
        transcript.add(message)
        yield receive_secret

    # The client's Certificate and CertificateVerify, if asked for, and its Finished.
    peer_chain = () if resumed is None else resumed.peer_chain
    if found is None and choice.client_certificate is not ClientCertificate.NONE:
        assert choice.verify_client is not None  # so says ServerChoice
        message = yield from receive(*CERTIFICATE_TYPES)
        peer_chain, _ = yield from receive_authentication(
            message,
            transcript,
            choice.verify_client,
            choice.signature_schemes,
            choice.compression,
            from_server=False,
            required=choice.client_certificate is ClientCertificate.REQUIRE,
        )
    yield from receive_finished(transcript, client_secret)
    yield InstallSecret(
        Level.APP, Direction.RECEIVE, cipher_suite, master_secret.client_application_traffic_secret_0(transcript_hash)
    )

    # NewSessionTicket, if the client can use one. An external PSK is offered again and needs none.
    if choice.tickets and (found is None or resumed is not None) and has_mode(offer, choice):
        session = begin_session(
            cipher_suite,
            choice.alpn,
            offer.server_name,
            peer_chain,
            parameters.now(),
            resumed,
            parameters.transport_parameters,
        )
        yield from send_tickets(
            parameters, choice, session, master_secret.resumption_master_secret(transcript.digest())
        )
    yield Complete(
        cipher_suite,
        group,
        None if found is not None else scheme,
        choice.alpn,
        offer.server_name,
        choice.entry,
        master_secret.exporter(transcript_hash),
        peer_chain,
        found.psk.identity if found is not None and resumed is None else None,
        resumed is not None,
        early_data,
    )
    yield from receive_nothing()


def _first_common(ours: tuple[T, ...], theirs: tuple[int, ...], what: str) -> T:
    """The first of ours that they have too."""
    for candidate in ours:
        if candidate in theirs:
            return candidate
    raise PeerError(AlertDescription.HANDSHAKE_FAILURE, f"there is no {what} in common")


def _choose_group(groups: tuple[NamedGroup, ...], offer: Offer) -> NamedGroup:
    """Our most preferred group that has a share; if none has, the most preferred that the client supports."""
    for group in groups:
        if group in offer.key_shares:
            return group
    return _first_common(groups, offer.supported_groups, "group")


def _choose_certificate(choice: ServerChoice, offer: Offer) -> tuple[CertificateChain, SignatureScheme]:
    """What to authenticate with (section 4.4.2.2). The client must have said which signatures it takes (4.2.3)."""
    if not choice.certificates:
        raise PeerError(AlertDescription.HANDSHAKE_FAILURE, "the client offers no PSK, and there is no certificate")
    if not offer.criteria.signature_algorithms:
        raise PeerError(AlertDescription.MISSING_EXTENSION, "the ClientHello lacks signature_algorithms")
    chosen = choose_certificate(choice.certificates, offer.criteria)
    if chosen is None:
        raise PeerError(AlertDescription.HANDSHAKE_FAILURE, "the client takes no signature scheme of our certificate")
    return chosen


def _retry(
    parameters: ServerParameters,
    first: ClientHello,
    cipher_suite: CipherSuite,
    group: NamedGroup,
    transcript: Transcript,
) -> Generator[Event, Any, tuple[bytes, ClientHello, Offer]]:
    """Send a HelloRetryRequest for `group` and receive the second ClientHello (sections 4.1.2 and 4.1.4): its message,
    which is not in the transcript yet, and what is in it."""
    transcript.retry()
    extensions = parameters.arrange(
        HELLO_RETRY_REQUEST, {X.KEY_SHARE: group.to_bytes(2, "big"), X.SUPPORTED_VERSIONS: _SELECTED_TLS_1_3}
    )
    request = ServerHello(HELLO_RETRY_REQUEST_RANDOM, first.legacy_session_id, cipher_suite, extensions).encode()
    transcript.add(request)
    yield SendMessage(Level.INITIAL, request)

    message = yield from receive(HandshakeType.CLIENT_HELLO)
    second = ClientHello.decode(message)
    offer = read_offer(second, over_quic=parameters.transport_parameters is not None)
    if tuple(offer.key_shares) != (group,):
        raise PeerError(AlertDescription.ILLEGAL_PARAMETER, "the second ClientHello has not just the share asked for")
    if X.EARLY_DATA in second.extensions:
        raise PeerError(AlertDescription.ILLEGAL_PARAMETER, "the second ClientHello offers early data")
    if second.extensions.get(X.COOKIE) != extensions.get(X.COOKIE):  # section 4.2.2
        raise PeerError(
            AlertDescription.ILLEGAL_PARAMETER, "the second ClientHello has not just the cookie it was given"
        )
    if not _is_same_but_for_retry(first, second):
        raise PeerError(AlertDescription.ILLEGAL_PARAMETER, "the second ClientHello differs from the first")
    return message, second, offer


_MAY_CHANGE = frozenset({X.KEY_SHARE, X.EARLY_DATA, X.COOKIE, X.PRE_SHARED_KEY, X.PADDING})


def _is_same_but_for_retry(first: ClientHello, second: ClientHello) -> bool:
    """Whether the second ClientHello changes only what section 4.1.2 lets it change."""
    return (
        first.legacy_version == second.legacy_version
        and first.random == second.random
        and first.legacy_session_id == second.legacy_session_id
        and first.cipher_suites == second.cipher_suites
        and _unchangeable(first) == _unchangeable(second)
    )


def _unchangeable(hello: ClientHello) -> list[tuple[int, bytes]]:
    """Extensions in their order, which has to stay too."""
    return [(kind, body) for kind, body in hello.extensions.items() if kind not in _MAY_CHANGE]


def _encrypted_extensions(
    parameters: ServerParameters, offer: Offer, choice: ServerChoice, *, early_data: bool
) -> bytes:
    extensions: Extensions = {}
    if offer.server_name is not None:
        extensions[X.SERVER_NAME] = b""  # "we used it", RFC 6066 section 3
    if choice.alpn is not None:
        extensions[X.APPLICATION_LAYER_PROTOCOL_NEGOTIATION] = encode_alpn((choice.alpn,))
    if parameters.transport_parameters is not None:
        extensions[X.QUIC_TRANSPORT_PARAMETERS] = parameters.transport_parameters
    if offer.record_size_limit is not None and parameters.record_size_limit is not None:
        extensions[X.RECORD_SIZE_LIMIT] = parameters.record_size_limit.to_bytes(2, "big")
    if early_data:
        extensions[X.EARLY_DATA] = b""
    if offer.key_shares and choice.groups[0] not in offer.key_shares:  # what we would have liked better (section 4.2.7)
        extensions[X.SUPPORTED_GROUPS] = encode_uint16_list(choice.groups)
    return EncryptedExtensions(parameters.arrange(HandshakeType.ENCRYPTED_EXTENSIONS, extensions)).encode()


def _certificate_request(parameters: ServerParameters, choice: ServerChoice) -> bytes:
    extensions: Extensions = {X.SIGNATURE_ALGORITHMS: encode_uint16_list(choice.signature_schemes)}
    if choice.certificate_signature_schemes:
        extensions[X.SIGNATURE_ALGORITHMS_CERT] = encode_uint16_list(choice.certificate_signature_schemes)
    if choice.compression:
        extensions[X.COMPRESS_CERTIFICATE] = encode_compress_certificate(choice.compression)
    if choice.certificate_authorities:
        extensions[X.CERTIFICATE_AUTHORITIES] = encode_certificate_authorities(choice.certificate_authorities)
    return CertificateRequest(parameters.arrange(HandshakeType.CERTIFICATE_REQUEST, extensions)).encode()
