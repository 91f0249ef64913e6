"""Extension blocks, the table of what may appear where, and the bodies of the extensions that we speak (RFC 8446 4.2).

A block is a dict from extension type to body, in the order of the wire. Bodies are decoded where they are used.
"""

from __future__ import annotations

import re
from functools import lru_cache

from quic_tlshd.tls.alert import AlertDescription, PeerError
from quic_tlshd.tls.codec import (
    decode_error,
    read_exactly,
    read_uint16s,
    read_vector,
    uint16,
    uint16s,
    vector8,
    vector16,
    vector24,
)
from quic_tlshd.tls.iana import ExtensionType as X
from quic_tlshd.tls.iana import HandshakeType

Extensions = dict[int, bytes]

GREASE = tuple(range(0x0A0A, 0x10000, 0x1010))
"""Cipher suites, extensions, groups, schemes and versions that nobody may select or answer with (RFC 8701)."""

HELLO_RETRY_REQUEST = "HelloRetryRequest"
"""A ServerHello by type, and a message of its own in the table below."""

# RFC 8446 section 4.2, the table at its end; later rows from the RFC that defines the extension.
_CH, _SH, _EE = HandshakeType.CLIENT_HELLO, HandshakeType.SERVER_HELLO, HandshakeType.ENCRYPTED_EXTENSIONS
_CT, _CR, _NST = HandshakeType.CERTIFICATE, HandshakeType.CERTIFICATE_REQUEST, HandshakeType.NEW_SESSION_TICKET
_PLACES: dict[int, frozenset[HandshakeType | str]] = {
    X.SERVER_NAME: frozenset({_CH, _EE, _CR}),  # CertificateRequest: RFC 9261, and RFC 9846's table
    X.MAX_FRAGMENT_LENGTH: frozenset({_CH, _EE}),
    X.STATUS_REQUEST: frozenset({_CH, _CR, _CT}),
    X.SUPPORTED_GROUPS: frozenset({_CH, _EE}),
    X.SIGNATURE_ALGORITHMS: frozenset({_CH, _CR}),
    X.APPLICATION_LAYER_PROTOCOL_NEGOTIATION: frozenset({_CH, _EE}),
    X.SIGNED_CERTIFICATE_TIMESTAMP: frozenset({_CH, _CR, _CT}),
    X.PADDING: frozenset({_CH}),
    X.COMPRESS_CERTIFICATE: frozenset({_CH, _CR}),  # RFC 8879 section 3
    X.RECORD_SIZE_LIMIT: frozenset({_CH, _EE}),  # RFC 8449 section 4
    X.PRE_SHARED_KEY: frozenset({_CH, _SH}),
    X.EARLY_DATA: frozenset({_CH, _EE, _NST}),
    X.SUPPORTED_VERSIONS: frozenset({_CH, _SH, HELLO_RETRY_REQUEST}),
    X.COOKIE: frozenset({_CH, HELLO_RETRY_REQUEST}),
    X.PSK_KEY_EXCHANGE_MODES: frozenset({_CH}),
    X.CERTIFICATE_AUTHORITIES: frozenset({_CH, _CR}),
    X.OID_FILTERS: frozenset({_CR}),
    X.POST_HANDSHAKE_AUTH: frozenset({_CH}),
    X.SIGNATURE_ALGORITHMS_CERT: frozenset({_CH, _CR}),
    X.KEY_SHARE: frozenset({_CH, _SH, HELLO_RETRY_REQUEST}),
    X.QUIC_TRANSPORT_PARAMETERS: frozenset({_CH, _EE}),  # RFC 9001 section 8.2
}
_SERVER_HELLOS = (_SH, HELLO_RETRY_REQUEST)


def decode_extensions(data: bytes, at: int, place: HandshakeType | str) -> Extensions:
    """The block that ends `data`; `place` is the message it is in.

    An extension that we know and that does not belong there is illegal_parameter (RFC 8446 section 4.2); unknown ones
    are kept, for requests to ignore and for responses to refuse. A ServerHello of TLS 1.2 has its extensions elsewhere
    and is to be refused for its version, so nothing is out of place in it.
    """
    block, end = read_vector(data, at, 2, "the extension block")
    if end != len(data):
        raise decode_error(f"{len(data) - end} bytes follow the extension block")
    extensions: Extensions = {}
    misplaced: int | None = None
    at, end = 0, len(block)
    while at < end:
        start = at + 4
        kind = int.from_bytes(block[at : at + 2], "big")
        at = start + int.from_bytes(block[at + 2 : start], "big")
        if at > end or start > end:
            raise decode_error("an extension is cut short")
        if kind in extensions:
            raise PeerError(AlertDescription.ILLEGAL_PARAMETER, f"extension {kind} appears twice")
        places = _PLACES.get(kind)
        if places is not None and place not in places:
            misplaced = kind
        extensions[kind] = block[start:at]
    if misplaced is not None and (X.SUPPORTED_VERSIONS in extensions or place not in _SERVER_HELLOS):
        where = place if isinstance(place, str) else place.name.lower()
        raise PeerError(AlertDescription.ILLEGAL_PARAMETER, f"{X(misplaced).name.lower()} does not belong in {where}")
    return extensions


def encode_extensions(extensions: Extensions) -> bytes:
    parts: list[bytes] = []
    for kind, body in extensions.items():
        parts += (kind.to_bytes(2, "big"), len(body).to_bytes(2, "big"), body)
    return vector16(b"".join(parts))


def require_offered(extensions: Extensions, offered: Extensions, what: str) -> None:
    """A response may hold only what was asked for, and no GREASE: unsupported_extension (RFC 8446 section 4.2)."""
    for kind in extensions:
        if kind not in offered or kind in GREASE:
            raise PeerError(
                AlertDescription.UNSUPPORTED_EXTENSION, f"{what} has extension {kind}, which was not offered"
            )


# server_name, RFC 6066 section 3

_HOST_NAME = re.compile(rb"[!-~]{1,255}\Z")


def encode_server_name(name: str) -> bytes:
    return vector16(b"\0" + vector16(name.encode("ascii")))


def decode_server_name(body: bytes) -> str | None:
    """The host_name in lower case, None if the list has only names of other types."""
    names = read_exactly(body, 2, "server_name", 1)
    host_name, at = None, 0
    while at < len(names):
        kind = names[at]
        name, at = read_vector(names, at + 1, 2, "a server name", 1)
        if kind != 0:
            continue
        if host_name is not None:
            raise PeerError(AlertDescription.ILLEGAL_PARAMETER, "server_name has two host names")
        if not _HOST_NAME.match(name):
            raise PeerError(AlertDescription.ILLEGAL_PARAMETER, "the server name is no host name")
        host_name = name.decode("ascii").lower()
    return host_name


# application_layer_protocol_negotiation, RFC 7301 section 3.1


def encode_alpn(protocols: tuple[bytes, ...]) -> bytes:
    return vector16(b"".join([vector8(protocol) for protocol in protocols]))


def decode_alpn(body: bytes) -> tuple[bytes, ...]:
    """The protocol names, at least one, none empty."""
    names = read_exactly(body, 2, "the ALPN list", 2)
    protocols, at = [], 0
    while at < len(names):
        protocol, at = read_vector(names, at, 1, "an ALPN name", 1)
        protocols.append(protocol)
    return tuple(protocols)


# supported_versions, supported_groups, signature_algorithms: lists of numbers


def encode_uint16_list(numbers: tuple[int, ...]) -> bytes:
    return vector16(uint16s(numbers))


def decode_uint16_list(body: bytes, what: str) -> tuple[int, ...]:
    return read_uint16s(read_exactly(body, 2, what, 2), what)


def decode_supported_versions(body: bytes) -> tuple[int, ...]:
    """The ClientHello's form; the ServerHello's is a bare uint16."""
    return read_uint16s(read_exactly(body, 1, "supported_versions", 2), "supported_versions")


def decode_uint16(body: bytes, what: str) -> int:
    if len(body) != 2:
        raise decode_error(f"{what} is not two bytes long")
    return int.from_bytes(body, "big")


# certificate_authorities, RFC 8446 section 4.2.4


@lru_cache(maxsize=64)
def encode_certificate_authorities(names: tuple[bytes, ...]) -> bytes:
    return vector16(b"".join([vector16(name) for name in names]))


def decode_certificate_authorities(body: bytes) -> tuple[bytes, ...]:
    """The names, in DER for all that is known of them here; at least one, none empty."""
    listed = read_exactly(body, 2, "certificate_authorities", 3)
    names, at = [], 0
    while at < len(listed):
        name, at = read_vector(listed, at, 2, "a name in certificate_authorities", 1)
        names.append(name)
    return tuple(names)


# status_request, RFC 6066 section 8 and RFC 8446 section 4.4.2.1

_OCSP = 1
STATUS_REQUEST = b"\1\0\0\0\0"
"""A client's wish for OCSP responses, of any responder."""


def decode_status_request(body: bytes) -> bool:
    """Whether a client wants OCSP responses; of whom, and with which extensions, is for the responder to heed."""
    if body[:1] == b"":
        raise decode_error("status_request is empty")
    if body[0] != _OCSP:
        return False
    _, at = read_vector(body, 1, 2, "responder_id_list")
    read_exactly(body[at:], 2, "request_extensions")
    return True


def encode_certificate_status(response: bytes) -> bytes:
    return _OCSP.to_bytes(1, "big") + vector24(response)


def decode_certificate_status(body: bytes) -> bytes:
    """The OCSP response (DER) that is stapled to a certificate."""
    if body[:1] not in (b"", b"\1"):
        raise PeerError(AlertDescription.ILLEGAL_PARAMETER, f"a certificate's status is of type {body[0]}, not OCSP")
    return read_exactly(body[1:], 3, "the OCSP response", 1)


# compress_certificate, RFC 8879 section 3


@lru_cache(maxsize=64)
def encode_compress_certificate(algorithms: tuple[int, ...]) -> bytes:
    return vector8(uint16s(algorithms))


def decode_compress_certificate(body: bytes) -> tuple[int, ...]:
    """The algorithms that the peer takes; at least one."""
    return read_uint16s(read_exactly(body, 1, "compress_certificate", 2), "compress_certificate")


# record_size_limit, RFC 8449 section 4

MAX_RECORD_SIZE = 2**14 + 1
_MIN_RECORD_SIZE = 64


def decode_record_size_limit(body: bytes) -> int:
    """What the peer takes, no more than TLS 1.3's own limit; less than 64 is illegal_parameter."""
    limit = decode_uint16(body, "record_size_limit")
    if limit < _MIN_RECORD_SIZE:
        raise PeerError(AlertDescription.ILLEGAL_PARAMETER, f"record_size_limit {limit} is below {_MIN_RECORD_SIZE}")
    return min(limit, MAX_RECORD_SIZE)


# key_share, RFC 8446 section 4.2.8


def encode_key_share_entry(group: int, key_exchange: bytes) -> bytes:
    return uint16(group) + vector16(key_exchange)


def encode_key_shares(entries: tuple[tuple[int, bytes], ...]) -> bytes:
    return vector16(b"".join([encode_key_share_entry(*entry) for entry in entries]))


def decode_key_shares(body: bytes) -> dict[int, bytes]:
    """The ClientHello's form: group to key_exchange, maybe empty, in order; a group twice is illegal_parameter."""
    entries = read_exactly(body, 2, "key_share")
    shares: dict[int, bytes] = {}
    at = 0
    while at < len(entries):
        group = int.from_bytes(entries[at : at + 2], "big")
        key_exchange, at = read_vector(entries, at + 2, 2, "a key share", 1)
        if group in shares:
            raise PeerError(AlertDescription.ILLEGAL_PARAMETER, f"two key shares for group {group:#06x}")
        shares[group] = key_exchange
    return shares


def decode_key_share_entry(body: bytes) -> tuple[int, bytes]:
    """The ServerHello's form."""
    key_exchange, end = read_vector(body, 2, 2, "the key share", 1)
    if end != len(body):
        raise decode_error("bytes follow the key share")
    return int.from_bytes(body[:2], "big"), key_exchange


# pre_shared_key and psk_key_exchange_modes, RFC 8446 sections 4.2.11 and 4.2.9


def decode_psk_key_exchange_modes(body: bytes) -> bytes:
    return read_exactly(body, 1, "psk_key_exchange_modes", 1)


def encode_offered_psks(identities: tuple[tuple[bytes, int], ...], binders: tuple[bytes, ...]) -> bytes:
    """The ClientHello's form: identities with their obfuscated_ticket_age, and binders."""
    listed = b"".join([vector16(identity) + age.to_bytes(4, "big") for identity, age in identities])
    return vector16(listed) + vector16(b"".join([vector8(binder) for binder in binders]))


def decode_offered_psks(body: bytes) -> tuple[tuple[tuple[bytes, int], ...], tuple[bytes, ...]]:
    """The identities, each with its obfuscated_ticket_age, and as many binders."""
    listed, at = read_vector(body, 0, 2, "the PSK identities", 7)
    bound = read_exactly(body[at:], 2, "the PSK binders", 33)
    identities, binders = [], []
    at = 0
    while at < len(listed):
        identity, at = read_vector(listed, at, 2, "a PSK identity", 1)
        age = listed[at : at + 4]
        if len(age) != 4:
            raise decode_error("a PSK identity is cut short")
        identities.append((identity, int.from_bytes(age, "big")))
        at += 4
    at = 0
    while at < len(bound):
        binder, at = read_vector(bound, at, 1, "a PSK binder", 32)
        binders.append(binder)
    if len(identities) != len(binders):
        raise PeerError(AlertDescription.ILLEGAL_PARAMETER, "as many PSK binders as identities are needed")
    return tuple(identities), tuple(binders)
