"""The client's handshake, top to bottom, in the order of RFC 8446; the mirror of `server`."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from typing import Any

from quic_tlshd.tls.alert import AlertDescription, PeerError
from quic_tlshd.tls.answer import read_alpn, read_key_exchange, require_answer, selected_psk
from quic_tlshd.tls.authentication import (
    CERTIFICATE_TYPES,
    certificate_message,
    receive_authentication,
    receive_finished,
)
from quic_tlshd.tls.codec import decode_error, read_exactly, vector8
from quic_tlshd.tls.compression import compress
from quic_tlshd.tls.early_data import offer_early_data, read_acceptance, session_for_early_data
from quic_tlshd.tls.engine import Handshake, receive
from quic_tlshd.tls.events import (
    Complete,
    EarlyDataRefused,
    Event,
    InstallSecret,
    PeerRecordSizeLimit,
    PeerTransportParameters,
    Selected,
    SendMessage,
    Sign,
)
from quic_tlshd.tls.extensions import (
    STATUS_REQUEST,
    Extensions,
    decode_record_size_limit,
    decode_uint16,
    encode_alpn,
    encode_compress_certificate,
    encode_key_shares,
    encode_server_name,
    encode_uint16_list,
    require_offered,
)
from quic_tlshd.tls.grease import with_grease
from quic_tlshd.tls.iana import TLS_1_3, HandshakeType, NamedGroup, SignatureScheme
from quic_tlshd.tls.iana import ExtensionType as X
from quic_tlshd.tls.key_exchange import KeyPair
from quic_tlshd.tls.key_schedule import EarlySecret, finished_verify_data
from quic_tlshd.tls.messages import (
    Certificate,
    CertificateRequest,
    CertificateVerify,
    ClientHello,
    EncryptedExtensions,
    EndOfEarlyData,
    Finished,
    ServerHello,
)
from quic_tlshd.tls.parameters import CertificateChain, ClientParameters, Direction, Level, PreSharedKey, Psk
from quic_tlshd.tls.psk import certificate_id, encode_with_binders, offered_psks, placeholder
from quic_tlshd.tls.resumption import begin_session, receive_tickets
from quic_tlshd.tls.selection import Criteria, choose_certificate, read_criteria
from quic_tlshd.tls.ticket import Session
from quic_tlshd.tls.transcript import Transcript

_OFFER_TLS_1_3 = vector8(TLS_1_3.to_bytes(2, "big"))


def client_handshake(parameters: ClientParameters) -> Handshake:
    over_quic = parameters.transport_parameters is not None

    # ClientHello: what we can do and whom we want to talk to. Early data may follow it.
    transcript = Transcript()
    key_pairs = {group: parameters.generate(group) for group in parameters.key_shares}
    psks = offered_psks(parameters)
    early_session = session_for_early_data(parameters, psks)
    hello = _client_hello(parameters, key_pairs, psks, early_session)
    message = encode_with_binders(hello, psks, transcript)
    transcript.add(message)
    yield SendMessage(Level.INITIAL, message)
    if early_session is not None:
        yield from offer_early_data(early_session, transcript)

    # ServerHello, maybe after a HelloRetryRequest: the key exchange. All that follows is encrypted.
    message = yield from receive(HandshakeType.SERVER_HELLO)
    server_hello = ServerHello.decode(message)
    cipher_suite = require_answer(server_hello, hello, parameters)
    transcript.start(cipher_suite.hash)
    if server_hello.is_hello_retry_request:
        transcript.retry()
        transcript.add(message)
        if early_session is not None:  # a retry refuses it (section 4.2.10)
            early_session = None
            yield EarlyDataRefused()
        psks = tuple([psk for psk in psks if psk.hash_name == cipher_suite.hash])
        hello, new_key_pairs = yield from _retry(parameters, hello, server_hello, psks, transcript)
        key_pairs = new_key_pairs or key_pairs
        message = yield from receive(HandshakeType.SERVER_HELLO)
        server_hello = ServerHello.decode(message)
        if server_hello.is_hello_retry_request:
            raise PeerError(AlertDescription.UNEXPECTED_MESSAGE, "a second HelloRetryRequest")
        if require_answer(server_hello, hello, parameters) != cipher_suite:
            raise PeerError(AlertDescription.ILLEGAL_PARAMETER, "the ServerHello changes the retry's cipher suite")
    psk = selected_psk(server_hello, psks, cipher_suite)
    if psk is None and parameters.verify_server is None:
        raise PeerError(AlertDescription.HANDSHAKE_FAILURE, "the server selected none of our PSKs")
    group, shared_secret = read_key_exchange(server_hello, key_pairs, psk, parameters, cipher_suite)
    transcript.add(message)
    transcript_hash = transcript.digest()
    early_secret = (
        EarlySecret.no_psk(cipher_suite.hash) if psk is None else EarlySecret.from_psk(cipher_suite.hash, psk.key)
    )
    handshake_secret = early_secret.handshake_secret(shared_secret)
    client_secret = handshake_secret.client_handshake_traffic_secret(transcript_hash)
    server_secret = handshake_secret.server_handshake_traffic_secret(transcript_hash)
    send_secret = InstallSecret(Level.HANDSHAKE, Direction.SEND, cipher_suite, client_secret)
    yield InstallSecret(Level.HANDSHAKE, Direction.RECEIVE, cipher_suite, server_secret)
    if over_quic or early_session is None:  # else the records that we send are early data until it has ended
        yield send_secret

    # EncryptedExtensions
    message = yield from receive(HandshakeType.ENCRYPTED_EXTENSIONS)
    transcript.add(message)
    extensions = EncryptedExtensions.decode(message).extensions
    require_offered(extensions, hello.extensions, "EncryptedExtensions")
    if extensions.get(X.SERVER_NAME):
        raise decode_error("the server's server_name is not empty")  # RFC 6066 section 3
    alpn = read_alpn(extensions, parameters)
    if over_quic:
        if X.QUIC_TRANSPORT_PARAMETERS not in extensions:
            raise PeerError(AlertDescription.MISSING_EXTENSION, "the server sent no quic_transport_parameters")
        yield PeerTransportParameters(extensions[X.QUIC_TRANSPORT_PARAMETERS])
    if X.RECORD_SIZE_LIMIT in extensions:
        yield PeerRecordSizeLimit(decode_record_size_limit(extensions[X.RECORD_SIZE_LIMIT]))
    yield Selected(alpn, parameters.server_name, parameters.entry)
    early_data = yield from read_acceptance(extensions, early_session, psk, cipher_suite, alpn)
    if not over_quic and early_session is not None and not early_data:
        yield send_secret

    # CertificateRequest if the server wants one of us, then the server's own Certificate, CertificateVerify, Finished.
    # A PSK stands for all but the Finished; that of a session, for the certificates that it was made with.
    criteria: Criteria | None = None
    resumed = psk if isinstance(psk, Session) else None
    peer_chain = () if resumed is None else resumed.peer_chain
    scheme: SignatureScheme | None = None
    if psk is None:
        assert parameters.verify_server is not None  # or it was refused above
        message = yield from receive(HandshakeType.CERTIFICATE_REQUEST, *CERTIFICATE_TYPES)
        if message[0] == HandshakeType.CERTIFICATE_REQUEST:
            criteria = _read_request(message)
            transcript.add(message)
            message = yield from receive(*CERTIFICATE_TYPES)
        peer_chain, scheme = yield from receive_authentication(
            message,
            transcript,
            parameters.verify_server,
            parameters.signature_schemes,
            parameters.compression,
            from_server=True,
            status_request=parameters.status_request,
        )
    yield from receive_finished(transcript, server_secret)
    transcript_hash = transcript.digest()  # what the application secrets cover (section 7.1)

    # EndOfEarlyData, which QUIC does without (RFC 9001 section 8.3).
    if early_data and not over_quic:
        end_of_early_data = EndOfEarlyData().encode()
        transcript.add(end_of_early_data)
        yield SendMessage(Level.EARLY, end_of_early_data)
        yield send_secret

    # Our answer: Certificate and CertificateVerify if asked, and Finished.
    flight, shown = b"", None
    if criteria is not None:
        flight, shown = yield from _authenticate(parameters, criteria, transcript)
    finished = Finished(finished_verify_data(cipher_suite.hash, client_secret, transcript.digest())).encode()
    transcript.add(finished)
    yield SendMessage(Level.HANDSHAKE, flight + finished)
    master_secret = handshake_secret.master_secret()
    yield InstallSecret(
        Level.APP, Direction.RECEIVE, cipher_suite, master_secret.server_application_traffic_secret_0(transcript_hash)
    )
    yield InstallSecret(
        Level.APP, Direction.SEND, cipher_suite, master_secret.client_application_traffic_secret_0(transcript_hash)
    )
    session: Session | None = None
    if parameters.tickets and peer_chain:  # without one an external PSK authenticated it, which is offered again
        session = begin_session(
            cipher_suite,
            alpn,
            parameters.server_name,
            peer_chain,
            parameters.now(),
            resumed,
            extensions.get(X.QUIC_TRANSPORT_PARAMETERS),
            certificate_id(shown) if shown is not None else b"",
        )
    yield Complete(
        cipher_suite,
        group,
        scheme,
        alpn,
        parameters.server_name,
        parameters.entry,
        master_secret.exporter(transcript_hash),
        peer_chain,
        psk.identity if isinstance(psk, Psk) else None,
        resumed is not None,
        early_data,
    )

    # NewSessionTicket, any number of them at any time.
    yield from receive_tickets(parameters, session, master_secret.resumption_master_secret(transcript.digest()))


def _client_hello(
    parameters: ClientParameters,
    key_pairs: dict[NamedGroup, KeyPair],
    psks: tuple[PreSharedKey, ...],
    early_session: Session | None,
) -> ClientHello:
    """ALPN and SNI come before key_share, which may be large: a kernel routes by what the first packet holds."""
    extensions: Extensions = {}
    if parameters.server_name is not None:
        extensions[X.SERVER_NAME] = encode_server_name(parameters.server_name)
    if parameters.alpn:
        extensions[X.APPLICATION_LAYER_PROTOCOL_NEGOTIATION] = encode_alpn(parameters.alpn)
    extensions[X.SUPPORTED_VERSIONS] = _OFFER_TLS_1_3
    extensions[X.SUPPORTED_GROUPS] = encode_uint16_list(parameters.groups)
    if parameters.verify_server is not None:
        extensions[X.SIGNATURE_ALGORITHMS] = encode_uint16_list(parameters.signature_schemes)
        if parameters.certificate_signature_schemes:
            extensions[X.SIGNATURE_ALGORITHMS_CERT] = encode_uint16_list(parameters.certificate_signature_schemes)
        if parameters.compression:
            extensions[X.COMPRESS_CERTIFICATE] = encode_compress_certificate(parameters.compression)
        if parameters.status_request:
            extensions[X.STATUS_REQUEST] = STATUS_REQUEST
    if parameters.transport_parameters is not None:
        extensions[X.QUIC_TRANSPORT_PARAMETERS] = parameters.transport_parameters
    if parameters.record_size_limit is not None:
        extensions[X.RECORD_SIZE_LIMIT] = parameters.record_size_limit.to_bytes(2, "big")
    extensions[X.KEY_SHARE] = _key_share(key_pairs)
    if early_session is not None:
        extensions[X.EARLY_DATA] = b""
    if psks or parameters.tickets:
        extensions[X.PSK_KEY_EXCHANGE_MODES] = vector8(bytes(parameters.psk_modes))
    if psks:
        extensions[X.PRE_SHARED_KEY] = placeholder(psks, parameters)
    hello = ClientHello(
        parameters.random(32),
        parameters.random(32) if parameters.compatibility_mode else b"",
        parameters.cipher_suites,
        parameters.arrange(HandshakeType.CLIENT_HELLO, extensions),
    )
    return with_grease(hello, parameters.random) if parameters.grease else hello


def _key_share(key_pairs: dict[NamedGroup, KeyPair]) -> bytes:
    return encode_key_shares(tuple([(group, pair.share) for group, pair in key_pairs.items()]))


def _retry(
    parameters: ClientParameters,
    hello: ClientHello,
    request: ServerHello,
    psks: tuple[PreSharedKey, ...],
    transcript: Transcript,
) -> Generator[Event, Any, tuple[ClientHello, dict[NamedGroup, KeyPair] | None]]:
    """Answer a HelloRetryRequest (section 4.1.4): the new hello and, if it has a new share, the key pair for that.
    `psks`: those of the cipher suite's hash; the others are offered no more."""
    extensions = {kind: body for kind, body in hello.extensions.items() if kind != X.EARLY_DATA}
    key_pairs: dict[NamedGroup, KeyPair] | None = None
    if X.KEY_SHARE in request.extensions:
        group = decode_uint16(request.extensions[X.KEY_SHARE], "key_share")
        if group not in parameters.groups or group in parameters.key_shares:
            raise PeerError(AlertDescription.ILLEGAL_PARAMETER, f"the retry asks for group {group:#06x}, needlessly")
        key_pairs = {NamedGroup(group): parameters.generate(NamedGroup(group))}
        extensions[X.KEY_SHARE] = _key_share(key_pairs)
    if X.COOKIE in request.extensions:
        read_exactly(request.extensions[X.COOKIE], 2, "the cookie", 1)
        extensions[X.COOKIE] = request.extensions[X.COOKIE]
    if key_pairs is None and X.COOKIE not in extensions:
        raise PeerError(AlertDescription.ILLEGAL_PARAMETER, "the HelloRetryRequest would not change the ClientHello")
    extensions.pop(X.PRE_SHARED_KEY, None)
    if psks:
        extensions[X.PRE_SHARED_KEY] = placeholder(psks, parameters)
    second = replace(hello, extensions=parameters.arrange(HandshakeType.CLIENT_HELLO, extensions))
    message = encode_with_binders(second, psks, transcript)
    transcript.add(message)
    yield SendMessage(Level.INITIAL, message)
    return second, key_pairs


def _read_request(message: bytes) -> Criteria:
    """What a CertificateRequest asks for (section 4.3.2). oid_filters name certificate extensions, of which a client
    ignores those that it doesn't know (4.2.5): we know none."""
    request = CertificateRequest.decode(message)
    if request.certificate_request_context:
        raise PeerError(AlertDescription.ILLEGAL_PARAMETER, "certificate_request_context is not empty")
    criteria = read_criteria(request.extensions, from_server=True)
    if not criteria.signature_algorithms:
        raise PeerError(AlertDescription.MISSING_EXTENSION, "the CertificateRequest lacks signature_algorithms")
    return criteria


def _authenticate(
    parameters: ClientParameters, criteria: Criteria, transcript: Transcript
) -> Generator[Event, Any, tuple[bytes, CertificateChain | None]]:
    """Certificate and CertificateVerify, or an empty Certificate if we have none that the server takes (4.4.2.3); and
    the certificate that they show."""
    chosen = choose_certificate(parameters.certificates, criteria)
    if chosen is None:
        nothing = Certificate(()).encode()
        transcript.add(nothing)
        return nothing, None
    certificate, scheme = chosen
    flight = compress(
        certificate_message(certificate, stapled=criteria.status_request),
        parameters.compression,
        criteria.compress_certificate,
    )
    transcript.add(flight)
    signature = yield Sign(certificate, scheme, transcript.digest())
    certificate_verify = CertificateVerify(scheme, signature).encode()
    transcript.add(certificate_verify)
    return flight + certificate_verify, certificate
