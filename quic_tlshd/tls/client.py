"""The client's handshake, top to bottom, in the order of RFC 8446; the mirror of `server`."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from typing import Any

from quic_tlshd.tls.alert import AlertDescription, PeerError
from quic_tlshd.tls.authentication import (
    certificate_message,
    receive_authentication,
    receive_finished,
)
from quic_tlshd.tls.codec import decode_error, read_exactly, vector8
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
    Extensions,
    decode_alpn,
    decode_key_share_entry,
    decode_record_size_limit,
    decode_uint16,
    encode_alpn,
    encode_key_shares,
    encode_server_name,
    encode_uint16_list,
    require_offered,
)
from quic_tlshd.tls.iana import (
    SSL_3_0,
    TLS_1_2,
    TLS_1_3,
    CipherSuite,
    HandshakeType,
    NamedGroup,
    PskKeyExchangeMode,
    SignatureScheme,
)
from quic_tlshd.tls.iana import ExtensionType as X
from quic_tlshd.tls.key_exchange import KeyPair
from quic_tlshd.tls.key_schedule import EarlySecret, finished_verify_data, hash_length
from quic_tlshd.tls.messages import (
    Certificate,
    CertificateRequest,
    CertificateVerify,
    ClientHello,
    EncryptedExtensions,
    Finished,
    ServerHello,
)
from quic_tlshd.tls.parameters import ClientParameters, Direction, Level, Psk
from quic_tlshd.tls.psk import encode_with_binders, placeholder
from quic_tlshd.tls.selection import Criteria, choose_certificate, read_criteria
from quic_tlshd.tls.transcript import Transcript

_OFFER_TLS_1_3 = vector8(TLS_1_3.to_bytes(2, "big"))
_SELECTED_TLS_1_3 = TLS_1_3.to_bytes(2, "big")
# RFC 8446 section 4.1.3: in the last bytes of the random of a server that could do 1.3 and negotiated less.
_DOWNGRADES = (b"DOWNGRD\x01", b"DOWNGRD\x00")


def client_handshake(parameters: ClientParameters) -> Handshake:
    # ClientHello: what we can do and whom we want to talk to.
    transcript = Transcript()
    key_pairs = {group: parameters.generate(group) for group in parameters.key_shares}
    psks = parameters.psks
    hello = _client_hello(parameters, key_pairs)
    message = encode_with_binders(hello, psks, transcript)
    transcript.add(message)
    yield SendMessage(Level.INITIAL, message)

    # ServerHello, maybe after a HelloRetryRequest: the key exchange. All that follows is encrypted.
    message = yield from receive(HandshakeType.SERVER_HELLO)
    server_hello = ServerHello.decode(message)
    cipher_suite = _require_answer(server_hello, hello, parameters)
    transcript.start(cipher_suite.hash)
    if server_hello.is_hello_retry_request:
        transcript.retry()
        transcript.add(message)
        psks = tuple([psk for psk in psks if psk.hash_name == cipher_suite.hash])
        hello, new_key_pairs = yield from _retry(parameters, hello, server_hello, psks, transcript)
        key_pairs = new_key_pairs or key_pairs
        message = yield from receive(HandshakeType.SERVER_HELLO)
        server_hello = ServerHello.decode(message)
        if server_hello.is_hello_retry_request:
            raise PeerError(AlertDescription.UNEXPECTED_MESSAGE, "a second HelloRetryRequest")
        if _require_answer(server_hello, hello, parameters) != cipher_suite:
            raise PeerError(AlertDescription.ILLEGAL_PARAMETER, "the ServerHello changes the retry's cipher suite")
    psk = _selected_psk(server_hello, psks, cipher_suite)
    if psk is None and parameters.verify_server is None:
        raise PeerError(AlertDescription.HANDSHAKE_FAILURE, "the server selected none of our PSKs")
    if psk is None or X.KEY_SHARE in server_hello.extensions:
        group, shared_secret = _exchange(server_hello, key_pairs)
    elif PskKeyExchangeMode.PSK_KE in parameters.psk_modes:
        group, shared_secret = None, bytes(hash_length(cipher_suite.hash))
    else:
        raise PeerError(AlertDescription.MISSING_EXTENSION, "the server would use our PSK without (EC)DHE")
    transcript.add(message)
    transcript_hash = transcript.digest()
    early_secret = (
        EarlySecret.no_psk(cipher_suite.hash) if psk is None else EarlySecret.from_psk(cipher_suite.hash, psk.key)
    )
    handshake_secret = early_secret.handshake_secret(shared_secret)
    client_secret = handshake_secret.client_handshake_traffic_secret(transcript_hash)
    server_secret = handshake_secret.server_handshake_traffic_secret(transcript_hash)
    yield InstallSecret(Level.HANDSHAKE, Direction.RECEIVE, cipher_suite, server_secret)
    yield InstallSecret(Level.HANDSHAKE, Direction.SEND, cipher_suite, client_secret)

    # EncryptedExtensions
    message = yield from receive(HandshakeType.ENCRYPTED_EXTENSIONS)
    transcript.add(message)
    extensions = EncryptedExtensions.decode(message).extensions
    require_offered(extensions, hello.extensions, "EncryptedExtensions")
    if extensions.get(X.SERVER_NAME):
        raise decode_error("the server's server_name is not empty")  # RFC 6066 section 3
    alpn = _read_alpn(extensions, parameters)
    if parameters.transport_parameters is not None:
        if X.QUIC_TRANSPORT_PARAMETERS not in extensions:
            raise PeerError(AlertDescription.MISSING_EXTENSION, "the server sent no quic_transport_parameters")
        yield PeerTransportParameters(extensions[X.QUIC_TRANSPORT_PARAMETERS])
    if X.RECORD_SIZE_LIMIT in extensions:
        yield PeerRecordSizeLimit(decode_record_size_limit(extensions[X.RECORD_SIZE_LIMIT]))
    yield Selected(alpn, parameters.server_name, parameters.entry)

    # CertificateRequest if the server wants one of us, then the server's own Certificate, CertificateVerify, Finished.
    # A PSK stands for all but the Finished.
    criteria: Criteria | None = None
    peer_chain: tuple[bytes, ...] = ()
    scheme: SignatureScheme | None = None
    if psk is None:
        assert parameters.verify_server is not None  # or it was refused above
        message = yield from receive(HandshakeType.CERTIFICATE_REQUEST, HandshakeType.CERTIFICATE)
        if message[0] == HandshakeType.CERTIFICATE_REQUEST:
            criteria = _read_request(message)
            transcript.add(message)
            message = yield from receive(HandshakeType.CERTIFICATE)
        peer_chain, scheme = yield from receive_authentication(
            message, transcript, parameters.verify_server, parameters.signature_schemes, from_server=True
        )
    yield from receive_finished(transcript, server_secret)
    transcript_hash = transcript.digest()  # what the application secrets cover (section 7.1)

    # Our answer: Certificate and CertificateVerify if asked, and Finished.
    flight = b""
    if criteria is not None:
        flight = yield from _authenticate(parameters, criteria, transcript)
    finished = Finished(finished_verify_data(cipher_suite.hash, client_secret, transcript.digest())).encode()
    yield SendMessage(Level.HANDSHAKE, flight + finished)
    master_secret = handshake_secret.master_secret()
    yield InstallSecret(
        Level.APP, Direction.RECEIVE, cipher_suite, master_secret.server_application_traffic_secret_0(transcript_hash)
    )
    yield InstallSecret(
        Level.APP, Direction.SEND, cipher_suite, master_secret.client_application_traffic_secret_0(transcript_hash)
    )
    return Complete(
        cipher_suite,
        group,
        scheme,
        alpn,
        parameters.server_name,
        parameters.entry,
        peer_chain,
        None if psk is None else psk.identity,
    )


def _client_hello(parameters: ClientParameters, key_pairs: dict[NamedGroup, KeyPair]) -> ClientHello:
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
    if parameters.transport_parameters is not None:
        extensions[X.QUIC_TRANSPORT_PARAMETERS] = parameters.transport_parameters
    if parameters.record_size_limit is not None:
        extensions[X.RECORD_SIZE_LIMIT] = parameters.record_size_limit.to_bytes(2, "big")
    extensions[X.KEY_SHARE] = _key_share(key_pairs)
    if parameters.psks:
        extensions[X.PSK_KEY_EXCHANGE_MODES] = vector8(bytes(parameters.psk_modes))
        extensions[X.PRE_SHARED_KEY] = placeholder(parameters.psks)
    return ClientHello(
        parameters.random(32),
        parameters.random(32) if parameters.compatibility_mode else b"",
        parameters.cipher_suites,
        parameters.arrange(HandshakeType.CLIENT_HELLO, extensions),
    )


def _key_share(key_pairs: dict[NamedGroup, KeyPair]) -> bytes:
    return encode_key_shares(tuple([(group, pair.share) for group, pair in key_pairs.items()]))


def _require_answer(server_hello: ServerHello, hello: ClientHello, parameters: ClientParameters) -> CipherSuite:
    """Check that a ServerHello or HelloRetryRequest answers our hello (section 4.1.3) and give its cipher suite."""
    extensions = server_hello.extensions
    if server_hello.legacy_version == SSL_3_0:  # appendix D.5
        raise PeerError(AlertDescription.PROTOCOL_VERSION, "the server speaks SSL 3.0")
    if X.SUPPORTED_VERSIONS not in extensions:
        if server_hello.random[-8:] in _DOWNGRADES:
            raise PeerError(AlertDescription.ILLEGAL_PARAMETER, "somebody makes the server downgrade to TLS 1.2")
        raise PeerError(AlertDescription.PROTOCOL_VERSION, "the server does not speak TLS 1.3")
    if decode_uint16(extensions[X.SUPPORTED_VERSIONS], "supported_versions") != TLS_1_3:
        raise PeerError(AlertDescription.ILLEGAL_PARAMETER, "the server selected a version that was not offered")
    if server_hello.legacy_version != TLS_1_2:
        raise PeerError(AlertDescription.ILLEGAL_PARAMETER, "the ServerHello's legacy_version is not TLS 1.2's")
    if server_hello.legacy_session_id_echo != hello.legacy_session_id:
        raise PeerError(AlertDescription.ILLEGAL_PARAMETER, "legacy_session_id_echo is not our legacy_session_id")
    if server_hello.legacy_compression_method != 0:
        raise PeerError(AlertDescription.ILLEGAL_PARAMETER, "the server selected compression")
    if server_hello.cipher_suite not in parameters.cipher_suites:
        raise PeerError(AlertDescription.ILLEGAL_PARAMETER, "the server selected a cipher suite that was not offered")
    # A HelloRetryRequest's cookie is the one extension that needs no offer (section 4.2).
    offered = {**hello.extensions, X.COOKIE: b""} if server_hello.is_hello_retry_request else hello.extensions
    require_offered(extensions, offered, "the ServerHello")
    return CipherSuite(server_hello.cipher_suite)


def _retry(
    parameters: ClientParameters,
    hello: ClientHello,
    request: ServerHello,
    psks: tuple[Psk, ...],
    transcript: Transcript,
) -> Generator[Event, Any, tuple[ClientHello, dict[NamedGroup, KeyPair] | None]]:
    """Answer a HelloRetryRequest (section 4.1.4): the new hello and, if it has a new share, the key pair for that.
    `psks`: those of the cipher suite's hash; the others are offered no more."""
    extensions = {**hello.extensions}
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
    if extensions == hello.extensions:
        raise PeerError(AlertDescription.ILLEGAL_PARAMETER, "the HelloRetryRequest would not change the ClientHello")
    extensions.pop(X.PRE_SHARED_KEY, None)
    if psks:
        extensions[X.PRE_SHARED_KEY] = placeholder(psks)
    second = replace(hello, extensions=parameters.arrange(HandshakeType.CLIENT_HELLO, extensions))
    message = encode_with_binders(second, psks, transcript)
    transcript.add(message)
    yield SendMessage(Level.INITIAL, message)
    return second, key_pairs


def _selected_psk(server_hello: ServerHello, psks: tuple[Psk, ...], cipher_suite: CipherSuite) -> Psk | None:
    """The PSK that the server selected, if any (section 4.2.11)."""
    body = server_hello.extensions.get(X.PRE_SHARED_KEY)
    if body is None:
        return None
    index = decode_uint16(body, "pre_shared_key")
    if index >= len(psks) or psks[index].hash_name != cipher_suite.hash:
        raise PeerError(AlertDescription.ILLEGAL_PARAMETER, f"the server selected PSK {index}, which can't be")
    return psks[index]


def _exchange(server_hello: ServerHello, key_pairs: dict[NamedGroup, KeyPair]) -> tuple[NamedGroup, bytes]:
    """The group and the shared secret, from the server's share."""
    body = server_hello.extensions.get(X.KEY_SHARE)
    if body is None:
        raise PeerError(AlertDescription.MISSING_EXTENSION, "the ServerHello lacks key_share")
    group, share = decode_key_share_entry(body)
    for ours, pair in key_pairs.items():
        if ours == group:
            return ours, pair.exchange(share)
    raise PeerError(AlertDescription.ILLEGAL_PARAMETER, f"the server's share is of group {group:#06x}, not one of ours")


def _read_alpn(extensions: Extensions, parameters: ClientParameters) -> bytes | None:
    """The protocol that the server selected. QUIC does not go on without one (RFC 9001 section 8.1)."""
    body = extensions.get(X.APPLICATION_LAYER_PROTOCOL_NEGOTIATION)
    if body is None:
        if parameters.alpn and parameters.transport_parameters is not None:
            raise PeerError(AlertDescription.NO_APPLICATION_PROTOCOL, "the server selected no application protocol")
        return None
    protocols = decode_alpn(body)
    if len(protocols) != 1 or protocols[0] not in parameters.alpn:
        raise PeerError(AlertDescription.ILLEGAL_PARAMETER, "the server selected a protocol that was not offered")
    return protocols[0]


def _read_request(message: bytes) -> Criteria:
    """What a CertificateRequest asks for (section 4.3.2). oid_filters name certificate extensions, of which a client
    ignores those that it doesn't know (4.2.5): we know none."""
    request = CertificateRequest.decode(message)
    if request.certificate_request_context:
        raise PeerError(AlertDescription.ILLEGAL_PARAMETER, "certificate_request_context is not empty")
    criteria = read_criteria(request.extensions)
    if criteria is None:
        raise PeerError(AlertDescription.MISSING_EXTENSION, "the CertificateRequest lacks signature_algorithms")
    return criteria


def _authenticate(
    parameters: ClientParameters, criteria: Criteria, transcript: Transcript
) -> Generator[Event, Any, bytes]:
    """Certificate and CertificateVerify, or an empty Certificate if we have none that the server takes (4.4.2.3)."""
    chosen = choose_certificate(parameters.certificates, criteria)
    if chosen is None:
        nothing = Certificate(()).encode()
        transcript.add(nothing)
        return nothing
    certificate, scheme = chosen
    flight = certificate_message(certificate)
    transcript.add(flight)
    signature = yield Sign(certificate, scheme, transcript.digest())
    certificate_verify = CertificateVerify(scheme, signature).encode()
    transcript.add(certificate_verify)
    return flight + certificate_verify
