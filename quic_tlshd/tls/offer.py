"""What a ClientHello offers: its extensions decoded, and required as RFC 8446 sections 4.1.2, 4.2 and 9.2 do."""

from __future__ import annotations

from dataclasses import dataclass

from quic_tlshd.tls.alert import AlertDescription, PeerError
from quic_tlshd.tls.codec import decode_error
from quic_tlshd.tls.extensions import (
    Extensions,
    decode_alpn,
    decode_key_shares,
    decode_offered_psks,
    decode_psk_key_exchange_modes,
    decode_record_size_limit,
    decode_server_name,
    decode_supported_versions,
    decode_uint16_list,
)
from quic_tlshd.tls.iana import SSL_3_0, TLS_1_3, TLS_FALLBACK_SCSV
from quic_tlshd.tls.iana import ExtensionType as X
from quic_tlshd.tls.messages import ClientHello
from quic_tlshd.tls.selection import Criteria, read_criteria


@dataclass(frozen=True, slots=True)
class Offer:
    """The extensions of a ClientHello, decoded. Groups and schemes are numbers, known or not. criteria: for our
    certificate. psk_ages: the obfuscated_ticket_age of each identity."""

    server_name: str | None
    alpn: tuple[bytes, ...]
    supported_groups: tuple[int, ...]
    key_shares: dict[int, bytes]
    criteria: Criteria
    transport_parameters: bytes | None
    record_size_limit: int | None = None
    psk_identities: tuple[bytes, ...] = ()
    psk_ages: tuple[int, ...] = ()
    psk_binders: tuple[bytes, ...] = ()
    psk_modes: bytes = b""
    early_data: bool = False


def read_offer(hello: ClientHello, *, over_quic: bool) -> Offer:
    """Decode what we need and require what RFC 8446 sections 4.1.2, 4.2 and 9.2 do."""
    extensions = hello.extensions
    body = extensions.get(X.SUPPORTED_VERSIONS)
    if hello.legacy_version <= SSL_3_0 or body is None or TLS_1_3 not in decode_supported_versions(body):
        if TLS_FALLBACK_SCSV in hello.cipher_suites:  # RFC 7507 section 3
            raise PeerError(AlertDescription.INAPPROPRIATE_FALLBACK, "the client was made to fall back from TLS 1.3")
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
    body = extensions.get(X.PRE_SHARED_KEY)
    psks, binders = ((), ()) if body is None else decode_offered_psks(body)
    body = extensions.get(X.PSK_KEY_EXCHANGE_MODES)
    modes = b"" if body is None else decode_psk_key_exchange_modes(body)
    body = extensions.get(X.RECORD_SIZE_LIMIT)
    limit = None if body is None else decode_record_size_limit(body)
    for kind in (X.EARLY_DATA, X.POST_HANDSHAKE_AUTH):
        if extensions.get(kind):
            raise decode_error(f"{kind.name.lower()} is not empty")
    transport_parameters = extensions.get(X.QUIC_TRANSPORT_PARAMETERS)
    return Offer(
        server_name,
        alpn,
        groups,
        shares,
        read_criteria(extensions, from_server=False),
        transport_parameters,
        limit,
        tuple([identity for identity, _ in psks]),
        tuple([age for _, age in psks]),
        binders,
        modes,
        X.EARLY_DATA in extensions,
    )


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
