"""What a server answers: its ServerHello and EncryptedExtensions, required to fit what the client offered."""

from __future__ import annotations

from quic_tlshd.tls.alert import AlertDescription, PeerError
from quic_tlshd.tls.extensions import (
    Extensions,
    decode_alpn,
    decode_key_share_entry,
    decode_uint16,
    require_offered,
)
from quic_tlshd.tls.iana import SSL_3_0, TLS_1_2, TLS_1_3, CipherSuite, NamedGroup, PskKeyExchangeMode
from quic_tlshd.tls.iana import ExtensionType as X
from quic_tlshd.tls.key_exchange import KeyPair
from quic_tlshd.tls.key_schedule import hash_length
from quic_tlshd.tls.messages import ClientHello, ServerHello
from quic_tlshd.tls.parameters import ClientParameters, PreSharedKey

# RFC 8446 section 4.1.3: in the last bytes of the random of a server that could do 1.3 and negotiated less.
_DOWNGRADES = (b"DOWNGRD\x01", b"DOWNGRD\x00")


def require_answer(server_hello: ServerHello, hello: ClientHello, parameters: ClientParameters) -> CipherSuite:
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
    if server_hello.legacy_version != TLS_1_2:  # RFC 9846 section 4.1.3; in RFC 8446 it was to be ignored
        raise PeerError(AlertDescription.PROTOCOL_VERSION, "the ServerHello's legacy_version is not TLS 1.2's")
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


def selected_psk(
    server_hello: ServerHello, psks: tuple[PreSharedKey, ...], cipher_suite: CipherSuite
) -> PreSharedKey | None:
    """The PSK that the server selected, if any (section 4.2.11)."""
    body = server_hello.extensions.get(X.PRE_SHARED_KEY)
    if body is None:
        return None
    index = decode_uint16(body, "pre_shared_key")
    if index >= len(psks) or psks[index].hash_name != cipher_suite.hash:
        raise PeerError(AlertDescription.ILLEGAL_PARAMETER, f"the server selected PSK {index}, which can't be")
    return psks[index]


def read_key_exchange(
    server_hello: ServerHello,
    key_pairs: dict[NamedGroup, KeyPair],
    psk: PreSharedKey | None,
    parameters: ClientParameters,
    cipher_suite: CipherSuite,
) -> tuple[NamedGroup | None, bytes]:
    """The group and the shared secret; None and zeros after psk_ke (section 7.1)."""
    does_dhe = X.KEY_SHARE in server_hello.extensions
    mode = PskKeyExchangeMode.PSK_DHE_KE if does_dhe else PskKeyExchangeMode.PSK_KE
    if psk is not None and mode not in parameters.psk_modes:  # section 4.2.11
        raise PeerError(AlertDescription.ILLEGAL_PARAMETER, f"the server selected {mode.name.lower()} for our PSK")
    if psk is None or does_dhe:
        return _exchange(server_hello, key_pairs)
    return None, bytes(hash_length(cipher_suite.hash))


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


def read_alpn(extensions: Extensions, parameters: ClientParameters) -> bytes | None:
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
