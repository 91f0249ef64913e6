"""The server's handshake, top to bottom, in the order of RFC 8446.

Client                                           Server

ClientHello          -------->
                     <--------       HelloRetryRequest      only if no key share is of a group that we take
ClientHello          -------->
                                           ServerHello
                                 {EncryptedExtensions}
                                 {CertificateRequest*}      if the registry entry wants a client certificate
                                         {Certificate}
                                   {CertificateVerify}      signed by whoever holds the key, not by this process
                     <--------              {Finished}
{Certificate*}
{CertificateVerify*}
{Finished}           -------->
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import TypeVar

from quic_tlshd.tls.alert import AlertDescription, PeerError
from quic_tlshd.tls.authentication import (
    certificate_message,
    choose_certificate,
    receive_authentication,
    receive_finished,
)
from quic_tlshd.tls.engine import Handshake, receive
from quic_tlshd.tls.events import (
    Complete,
    Event,
    InstallSecret,
    PeerTransportParameters,
    Selected,
    SendMessage,
    Sign,
)
from quic_tlshd.tls.extensions import (
    HELLO_RETRY_REQUEST,
    Extensions,
    decode_alpn,
    decode_key_shares,
    decode_offered_psks,
    decode_psk_key_exchange_modes,
    decode_server_name,
    decode_supported_versions,
    decode_uint16_list,
    encode_alpn,
    encode_key_share_entry,
    encode_uint16_list,
)
from quic_tlshd.tls.iana import SSL_3_0, TLS_1_3, CipherSuite, HandshakeType, NamedGroup, SignatureScheme
from quic_tlshd.tls.iana import ExtensionType as X
from quic_tlshd.tls.key_exchange import respond
from quic_tlshd.tls.key_schedule import EarlySecret, finished_verify_data
from quic_tlshd.tls.messages import (
    HELLO_RETRY_REQUEST_RANDOM,
    CertificateRequest,
    CertificateVerify,
    ClientHello,
    EncryptedExtensions,
    Finished,
    ServerHello,
)
from quic_tlshd.tls.parameters import (
    CertificateChain,
    ClientCertificate,
    Direction,
    Level,
    ServerChoice,
    ServerParameters,
)
from quic_tlshd.tls.transcript import Transcript

_SELECTED_TLS_1_3 = TLS_1_3.to_bytes(2, "big")

T = TypeVar("T", CipherSuite, NamedGroup)


def server_handshake(parameters: ServerParameters) -> Handshake:
    # ClientHello: what the client can do and whom it wants to talk to. The registry chooses who answers.
    message = yield from receive(HandshakeType.CLIENT_HELLO)
    hello = ClientHello.decode(message)
    offer = read_offer(hello, over_quic=parameters.transport_parameters is not None)
    choice = parameters.choose(offer.server_name, offer.alpn)
    cipher_suite = _first_common(choice.cipher_suites, hello.cipher_suites, "cipher suite")
    certificate, scheme = _choose_certificate(choice, offer)

    transcript = Transcript()
    transcript.start(cipher_suite.hash)
    transcript.add(message)
    yield Selected(choice.alpn, offer.server_name, choice.entry)

    # HelloRetryRequest: only if there is a group in common, but no share of one (section 4.1.4).
    group = _choose_group(choice.groups, offer)
    if group not in offer.key_shares:
        hello, offer = yield from _retry(parameters, hello, offer, cipher_suite, group, transcript)
    if offer.transport_parameters is not None:
        yield PeerTransportParameters(offer.transport_parameters)

    # ServerHello: the key exchange. All that follows is encrypted.
    share, shared_secret = respond(group, offer.key_shares[group], parameters.generate)
    server_hello = ServerHello(
        parameters.random(32),
        hello.legacy_session_id,
        cipher_suite,
        parameters.arrange(
            HandshakeType.SERVER_HELLO,
            {X.KEY_SHARE: encode_key_share_entry(group, share), X.SUPPORTED_VERSIONS: _SELECTED_TLS_1_3},
        ),
    ).encode()
    transcript.add(server_hello)
    transcript_hash = transcript.digest()
    handshake_secret = EarlySecret.no_psk(cipher_suite.hash).handshake_secret(shared_secret)
    client_secret = handshake_secret.client_handshake_traffic_secret(transcript_hash)
    server_secret = handshake_secret.server_handshake_traffic_secret(transcript_hash)
    yield SendMessage(Level.INITIAL, server_hello)
    yield InstallSecret(Level.HANDSHAKE, Direction.SEND, cipher_suite, server_secret)
    yield InstallSecret(Level.HANDSHAKE, Direction.RECEIVE, cipher_suite, client_secret)

    # EncryptedExtensions to Finished: one flight, held until the signature is there.
    flight = _encrypted_extensions(parameters, offer, choice)
    if choice.client_certificate is not ClientCertificate.NONE:
        flight += _certificate_request(parameters, choice)
    flight += certificate_message(certificate)
    transcript.add(flight)
    signature = yield Sign(certificate, scheme, transcript.digest())
    certificate_verify = CertificateVerify(scheme, signature).encode()
    transcript.add(certificate_verify)
    finished = Finished(finished_verify_data(cipher_suite.hash, server_secret, transcript.digest())).encode()
    transcript.add(finished)
    yield SendMessage(Level.HANDSHAKE, flight + certificate_verify + finished)

    # The application secrets cover everything up to our Finished (section 7.1); we may send with them at once.
    transcript_hash = transcript.digest()
    master_secret = handshake_secret.master_secret()
    yield InstallSecret(
        Level.APP, Direction.SEND, cipher_suite, master_secret.server_application_traffic_secret_0(transcript_hash)
    )

    # The client's Certificate and CertificateVerify, if asked for, and its Finished.
    peer_chain: tuple[bytes, ...] = ()
    if choice.client_certificate is not ClientCertificate.NONE:
        assert choice.verify_client is not None  # so says ServerChoice
        message = yield from receive(HandshakeType.CERTIFICATE)
        peer_chain, _ = yield from receive_authentication(
            message,
            transcript,
            choice.verify_client,
            choice.signature_schemes,
            from_server=False,
            required=choice.client_certificate is ClientCertificate.REQUIRE,
        )
    yield from receive_finished(transcript, client_secret)
    yield InstallSecret(
        Level.APP, Direction.RECEIVE, cipher_suite, master_secret.client_application_traffic_secret_0(transcript_hash)
    )
    return Complete(cipher_suite, group, scheme, choice.alpn, offer.server_name, choice.entry, peer_chain)


@dataclass(frozen=True, slots=True)
class Offer:
    """The extensions of a ClientHello, decoded. Groups and schemes are numbers, known or not."""

    server_name: str | None
    alpn: tuple[bytes, ...]
    supported_groups: tuple[int, ...]
    key_shares: dict[int, bytes]
    signature_algorithms: tuple[int, ...] | None
    transport_parameters: bytes | None


def read_offer(hello: ClientHello, *, over_quic: bool) -> Offer:
    """Decode what we need and require what RFC 8446 sections 4.1.2, 4.2 and 9.2 do."""
    extensions = hello.extensions
    body = extensions.get(X.SUPPORTED_VERSIONS)
    if hello.legacy_version == SSL_3_0 or body is None or TLS_1_3 not in decode_supported_versions(body):
        raise PeerError(AlertDescription.PROTOCOL_VERSION, "the client does not offer TLS 1.3")
    if hello.legacy_compression_methods != b"\0":
        raise PeerError(AlertDescription.ILLEGAL_PARAMETER, "the client offers compression")
    if over_quic and hello.legacy_session_id:
        raise PeerError(AlertDescription.ILLEGAL_PARAMETER, "legacy_session_id is not empty (RFC 9001 section 8.4)")
    _require_extensions(extensions, over_quic=over_quic)

    body = extensions.get(X.SERVER_NAME)
    server_name = None if body is None else decode_server_name(body)
    body = extensions.get(X.APPLICATION_LAYER_PROTOCOL_NEGOTIATION)
    alpn = () if body is None else decode_alpn(body)
    body = extensions.get(X.SUPPORTED_GROUPS)
    groups = () if body is None else decode_uint16_list(body, "supported_groups")
    body = extensions.get(X.KEY_SHARE)
    shares = {} if body is None else decode_key_shares(body)
    if list(shares) != [group for group in dict.fromkeys(groups) if group in shares]:  # section 4.2.8
        raise PeerError(AlertDescription.ILLEGAL_PARAMETER, "the key shares do not follow supported_groups")
    body = extensions.get(X.SIGNATURE_ALGORITHMS)
    algorithms = None if body is None else decode_uint16_list(body, "signature_algorithms")
    if X.PRE_SHARED_KEY in extensions:
        decode_offered_psks(extensions[X.PRE_SHARED_KEY])
    if X.PSK_KEY_EXCHANGE_MODES in extensions:
        decode_psk_key_exchange_modes(extensions[X.PSK_KEY_EXCHANGE_MODES])
    return Offer(server_name, alpn, groups, shares, algorithms, extensions.get(X.QUIC_TRANSPORT_PARAMETERS))


_WITHOUT_PSK = (X.SIGNATURE_ALGORITHMS, X.SUPPORTED_GROUPS, X.KEY_SHARE)
_WITH_PSK = (X.PSK_KEY_EXCHANGE_MODES,)
_WITH_PSK_DHE = (X.PSK_KEY_EXCHANGE_MODES, X.SUPPORTED_GROUPS, X.KEY_SHARE)


def _require_extensions(present: Extensions, *, over_quic: bool) -> None:
    """The mandatory combinations of section 9.2, and RFC 9001 section 8.2 for QUIC."""
    required: tuple[X, ...] = _WITHOUT_PSK
    if X.PRE_SHARED_KEY in present:
        is_dhe = X.SUPPORTED_GROUPS in present or X.KEY_SHARE in present
        required = _WITH_PSK_DHE if is_dhe else _WITH_PSK
    if over_quic:
        if X.QUIC_TRANSPORT_PARAMETERS not in present:
            raise PeerError(AlertDescription.MISSING_EXTENSION, "the ClientHello lacks quic_transport_parameters")
    elif X.QUIC_TRANSPORT_PARAMETERS in present:
        raise PeerError(AlertDescription.UNSUPPORTED_EXTENSION, "quic_transport_parameters came, but not over QUIC")
    for extension in required:
        if extension not in present:
            raise PeerError(AlertDescription.MISSING_EXTENSION, f"the ClientHello lacks {extension.name.lower()}")


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
    if offer.signature_algorithms is None:
        raise PeerError(AlertDescription.MISSING_EXTENSION, "the ClientHello lacks signature_algorithms")
    chosen = choose_certificate(choice.certificates, offer.signature_algorithms)
    if chosen is None:
        raise PeerError(AlertDescription.HANDSHAKE_FAILURE, "the client takes no signature scheme of our certificate")
    return chosen


def _retry(
    parameters: ServerParameters,
    first: ClientHello,
    first_offer: Offer,
    cipher_suite: CipherSuite,
    group: NamedGroup,
    transcript: Transcript,
) -> Generator[Event, bytes, tuple[ClientHello, Offer]]:
    """Send a HelloRetryRequest for `group` and receive the second ClientHello (sections 4.1.2 and 4.1.4)."""
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
    transcript.add(message)
    return second, offer


_MAY_CHANGE = frozenset({X.KEY_SHARE, X.EARLY_DATA, X.COOKIE, X.PRE_SHARED_KEY, X.PADDING})


def _is_same_but_for_retry(first: ClientHello, second: ClientHello) -> bool:
    """Whether the second ClientHello changes only what section 4.1.2 lets it change."""
    return (
        first.legacy_version == second.legacy_version
        and first.random == second.random
        and first.legacy_session_id == second.legacy_session_id
        and first.cipher_suites == second.cipher_suites
        and {kind: body for kind, body in first.extensions.items() if kind not in _MAY_CHANGE}
        == {kind: body for kind, body in second.extensions.items() if kind not in _MAY_CHANGE}
    )


def _encrypted_extensions(parameters: ServerParameters, offer: Offer, choice: ServerChoice) -> bytes:
    extensions: Extensions = {}
    if offer.server_name is not None:
        extensions[X.SERVER_NAME] = b""  # "we used it", RFC 6066 section 3
    if choice.alpn is not None:
        extensions[X.APPLICATION_LAYER_PROTOCOL_NEGOTIATION] = encode_alpn((choice.alpn,))
    if parameters.transport_parameters is not None:
        extensions[X.QUIC_TRANSPORT_PARAMETERS] = parameters.transport_parameters
    return EncryptedExtensions(parameters.arrange(HandshakeType.ENCRYPTED_EXTENSIONS, extensions)).encode()


def _certificate_request(parameters: ServerParameters, choice: ServerChoice) -> bytes:
    extensions: Extensions = {X.SIGNATURE_ALGORITHMS: encode_uint16_list(choice.signature_schemes)}
    return CertificateRequest(parameters.arrange(HandshakeType.CERTIFICATE_REQUEST, extensions)).encode()
