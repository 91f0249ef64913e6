"""What a server refuses in a ClientHello, and with which alert; and what it must put up with.

The RFC is 8446 where a section is given without one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from quic_tlshd.tls.alert import AlertDescription
from quic_tlshd.tls.codec import vector8, vector16
from quic_tlshd.tls.events import SkipEarlyData
from quic_tlshd.tls.extensions import (
    HELLO_RETRY_REQUEST,
    Extensions,
    encode_alpn,
    encode_key_shares,
    encode_server_name,
    encode_uint16_list,
)
from quic_tlshd.tls.iana import ExtensionType as X
from quic_tlshd.tls.iana import HandshakeType, NamedGroup
from quic_tlshd.tls.messages import ClientHello, encode_message
from quic_tlshd.tls.parameters import ClientParameters
from tests.tls.playbook import Duel, Role, identity, trust

A = AlertDescription
Change = Callable[[ClientHello], ClientHello]

GREASE = 0x2A2A  # RFC 8701
FFDHE2048 = 0x0100


def with_extensions(extensions: dict[int, bytes | None]) -> Change:
    """Set these extensions; None removes one."""

    def change(hello: ClientHello) -> ClientHello:
        merged = {**hello.extensions, **extensions}
        return replace(hello, extensions={kind: body for kind, body in merged.items() if body is not None})

    return change


def with_fields(**fields: object) -> Change:
    return lambda hello: replace(hello, **fields)


def psk(identities: bytes = b"\0\x01i\0\0\0\0", binders: bytes = b"\x20" + bytes(32)) -> bytes:
    return vector16(identities) + vector16(binders)


def server_name(*names: tuple[int, bytes]) -> bytes:
    return vector16(b"".join([bytes((kind,)) + vector16(name) for kind, name in names]))


REFUSED: dict[str, tuple[Change, AlertDescription]] = {
    # Versions: sections 4.1.2 and 4.2.1, appendix D.5
    "supported_versions is missing (4.2.1)": (with_extensions({X.SUPPORTED_VERSIONS: None}), A.PROTOCOL_VERSION),
    "a TLS 1.2 client without extensions (4.1.2)": (with_fields(extensions={}), A.PROTOCOL_VERSION),
    "TLS 1.3 is not in supported_versions (4.2.1)": (
        with_extensions({X.SUPPORTED_VERSIONS: b"\x04\x03\x03\x2a\x2a"}),
        A.PROTOCOL_VERSION,
    ),
    "legacy_version is SSL 3.0 (D.5)": (with_fields(legacy_version=0x0300), A.PROTOCOL_VERSION),
    "legacy_version is SSL 2.0": (with_fields(legacy_version=0x0002), A.PROTOCOL_VERSION),
    "supported_versions is empty (4.2.1)": (with_extensions({X.SUPPORTED_VERSIONS: b"\0"}), A.DECODE_ERROR),
    "supported_versions has half a version (4.2.1)": (
        with_extensions({X.SUPPORTED_VERSIONS: b"\3\3\4\3"}),
        A.DECODE_ERROR,
    ),
    "supported_versions has bytes behind it": (
        with_extensions({X.SUPPORTED_VERSIONS: b"\2\3\4\0"}),
        A.DECODE_ERROR,
    ),
    # Fields: section 4.1.2
    "compression is offered (4.1.2)": (with_fields(legacy_compression_methods=b"\1\0"), A.ILLEGAL_PARAMETER),
    "compression is demanded (4.1.2)": (with_fields(legacy_compression_methods=b"\1"), A.ILLEGAL_PARAMETER),
    "no compression method (4.1.2)": (with_fields(legacy_compression_methods=b""), A.DECODE_ERROR),
    "legacy_session_id is too long (4.1.2)": (with_fields(legacy_session_id=bytes(33)), A.DECODE_ERROR),
    "no cipher suites (4.1.2)": (with_fields(cipher_suites=()), A.DECODE_ERROR),
    "no cipher suite that we have (4.1.1)": (with_fields(cipher_suites=(0x00FF, 0x1305)), A.HANDSHAKE_FAILURE),
    "a short random": (with_fields(random=bytes(4), extensions={}), A.DECODE_ERROR),
    # Mandatory extensions: section 9.2
    "signature_algorithms is missing (4.2.3, 9.2)": (
        with_extensions({X.SIGNATURE_ALGORITHMS: None}),
        A.MISSING_EXTENSION,
    ),
    "supported_groups is missing (9.2)": (with_extensions({X.SUPPORTED_GROUPS: None}), A.MISSING_EXTENSION),
    "key_share is missing (9.2)": (with_extensions({X.KEY_SHARE: None}), A.MISSING_EXTENSION),
    "no key exchange at all (9.2)": (
        with_extensions({X.KEY_SHARE: None, X.SUPPORTED_GROUPS: None}),
        A.MISSING_EXTENSION,
    ),
    # Lists
    "signature_algorithms is empty (4.2.3)": (with_extensions({X.SIGNATURE_ALGORITHMS: b"\0\0"}), A.DECODE_ERROR),
    "signature_algorithms is odd (4.2.3)": (with_extensions({X.SIGNATURE_ALGORITHMS: b"\0\1\4"}), A.DECODE_ERROR),
    "no signature_algorithm for our key (4.4.2.2)": (
        with_extensions({X.SIGNATURE_ALGORITHMS: encode_uint16_list((0x0401, 0x0203))}),
        A.HANDSHAKE_FAILURE,
    ),
    "supported_groups is empty (4.2.7)": (with_extensions({X.SUPPORTED_GROUPS: b"\0\0"}), A.DECODE_ERROR),
    "supported_groups is cut short": (with_extensions({X.SUPPORTED_GROUPS: b"\0\4\0\x1d"}), A.DECODE_ERROR),
    "no group that we have (4.1.1)": (
        with_extensions({X.SUPPORTED_GROUPS: encode_uint16_list((FFDHE2048,)), X.KEY_SHARE: b"\0\0"}),
        A.HANDSHAKE_FAILURE,
    ),
    # key_share: section 4.2.8
    "a key share of a group that is not supported (4.2.8)": (
        with_extensions({X.KEY_SHARE: encode_key_shares(((FFDHE2048, b"x"),))}),
        A.ILLEGAL_PARAMETER,
    ),
    "two key shares of one group (4.2.8)": (
        with_extensions({X.KEY_SHARE: encode_key_shares(((NamedGroup.X25519, bytes(32)),) * 2)}),
        A.ILLEGAL_PARAMETER,
    ),
    "key shares in another order than the groups (4.2.8)": (
        with_extensions({X.KEY_SHARE: encode_key_shares(((NamedGroup.SECP256R1, b"x"), (NamedGroup.X25519, b"x")))}),
        A.ILLEGAL_PARAMETER,
    ),
    "an empty key_exchange (4.2.8)": (
        with_extensions({X.KEY_SHARE: encode_key_shares(((NamedGroup.X25519, b""),))}),
        A.DECODE_ERROR,
    ),
    "half a key share (4.2.8)": (with_extensions({X.KEY_SHARE: b"\0\3\0\x1d\0"}), A.DECODE_ERROR),
    "bytes behind the key shares (4.2.8)": (with_extensions({X.KEY_SHARE: b"\0\0\0"}), A.DECODE_ERROR),
    # server_name: RFC 6066 section 3
    "server_name is empty (RFC 6066 3)": (with_extensions({X.SERVER_NAME: b""}), A.DECODE_ERROR),
    "the list of names is empty (RFC 6066 3)": (with_extensions({X.SERVER_NAME: b"\0\0"}), A.DECODE_ERROR),
    "an empty host name (RFC 6066 3)": (with_extensions({X.SERVER_NAME: server_name((0, b""))}), A.DECODE_ERROR),
    "two host names (RFC 6066 3)": (
        with_extensions({X.SERVER_NAME: server_name((0, b"a.example"), (0, b"b.example"))}),
        A.ILLEGAL_PARAMETER,
    ),
    "a host name with a NUL (RFC 6066 3)": (
        with_extensions({X.SERVER_NAME: server_name((0, b"a.example\0.b"))}),
        A.ILLEGAL_PARAMETER,
    ),
    "a host name that is not ASCII (RFC 6066 3)": (
        with_extensions({X.SERVER_NAME: server_name((0, "ä.example".encode()))}),
        A.ILLEGAL_PARAMETER,
    ),
    "a host name of 256 bytes": (with_extensions({X.SERVER_NAME: server_name((0, b"a" * 256))}), A.ILLEGAL_PARAMETER),
    "bytes behind the server name": (
        with_extensions({X.SERVER_NAME: encode_server_name("a.example") + b"\0"}),
        A.DECODE_ERROR,
    ),
    # ALPN: RFC 7301 section 3.1
    "ALPN is empty (RFC 7301 3.1)": (
        with_extensions({X.APPLICATION_LAYER_PROTOCOL_NEGOTIATION: b"\0\0"}),
        A.DECODE_ERROR,
    ),
    "an empty protocol name (RFC 7301 3.1)": (
        with_extensions({X.APPLICATION_LAYER_PROTOCOL_NEGOTIATION: encode_alpn((b"h3", b""))}),
        A.DECODE_ERROR,
    ),
    "a protocol name is cut short": (
        with_extensions({X.APPLICATION_LAYER_PROTOCOL_NEGOTIATION: b"\0\3\3h3"}),
        A.DECODE_ERROR,
    ),
    # Extensions as such: section 4.2
    "an extension of another message (4.2)": (with_extensions({X.OID_FILTERS: b"\0\0"}), A.ILLEGAL_PARAMETER),
    "early_data is not empty (4.2.10)": (with_extensions({X.EARLY_DATA: b"\0"}), A.DECODE_ERROR),
    "post_handshake_auth is not empty (4.2.6)": (with_extensions({X.POST_HANDSHAKE_AUTH: b"\0"}), A.DECODE_ERROR),
    # pre_shared_key: sections 4.2.9 and 4.2.11
    "psk_key_exchange_modes is missing (4.2.9)": (with_extensions({X.PRE_SHARED_KEY: psk()}), A.MISSING_EXTENSION),
    "psk_key_exchange_modes is empty (4.2.9)": (
        with_extensions({X.PSK_KEY_EXCHANGE_MODES: b"\0"}),
        A.DECODE_ERROR,
    ),
    "psk_key_exchange_modes is cut short (4.2.9)": (
        with_extensions({X.PSK_KEY_EXCHANGE_MODES: b"\2\1", X.PRE_SHARED_KEY: psk()}),
        A.DECODE_ERROR,
    ),
    "no PSK identities (4.2.11)": (
        with_extensions({X.PSK_KEY_EXCHANGE_MODES: b"\1\1", X.PRE_SHARED_KEY: psk(identities=b"")}),
        A.DECODE_ERROR,
    ),
    "no PSK binders (4.2.11)": (
        with_extensions({X.PSK_KEY_EXCHANGE_MODES: b"\1\1", X.PRE_SHARED_KEY: psk(binders=b"")}),
        A.DECODE_ERROR,
    ),
    "a PSK binder that is too short (4.2.11)": (
        with_extensions({X.PSK_KEY_EXCHANGE_MODES: b"\1\1", X.PRE_SHARED_KEY: psk(binders=b"\1" + bytes(32))}),
        A.DECODE_ERROR,
    ),
    "a PSK identity without its age (4.2.11)": (
        with_extensions({X.PSK_KEY_EXCHANGE_MODES: b"\1\1", X.PRE_SHARED_KEY: psk(identities=b"\0\4iiii\0")}),
        A.DECODE_ERROR,
    ),
    "fewer PSK binders than identities (4.2.11)": (
        with_extensions({X.PSK_KEY_EXCHANGE_MODES: b"\1\1", X.PRE_SHARED_KEY: psk(identities=b"\0\x01i\0\0\0\0" * 2)}),
        A.ILLEGAL_PARAMETER,
    ),
    "pre_shared_key is not the last (4.2.11)": (
        with_extensions({X.PSK_KEY_EXCHANGE_MODES: b"\1\1", X.PRE_SHARED_KEY: psk(), X.COOKIE: b"\0\1c"}),
        A.ILLEGAL_PARAMETER,
    ),
    "a PSK with groups but no shares (9.2)": (
        with_extensions({X.KEY_SHARE: None, X.PSK_KEY_EXCHANGE_MODES: b"\1\1", X.PRE_SHARED_KEY: psk()}),
        A.MISSING_EXTENSION,
    ),
    "a PSK with shares but no groups (9.2)": (
        with_extensions({X.SUPPORTED_GROUPS: None, X.PSK_KEY_EXCHANGE_MODES: b"\1\1", X.PRE_SHARED_KEY: psk()}),
        A.MISSING_EXTENSION,
    ),
    "a PSK that we do not know and no certificate to go on with (4.2.3)": (
        with_extensions({X.SIGNATURE_ALGORITHMS: None, X.PSK_KEY_EXCHANGE_MODES: b"\1\1", X.PRE_SHARED_KEY: psk()}),
        A.MISSING_EXTENSION,
    ),
    "a PSK that we do not know and no group (4.1.1)": (
        with_extensions(
            {
                X.SUPPORTED_GROUPS: None,
                X.KEY_SHARE: None,
                X.PSK_KEY_EXCHANGE_MODES: b"\1\1",
                X.PRE_SHARED_KEY: psk(),
            }
        ),
        A.HANDSHAKE_FAILURE,
    ),
}


@pytest.mark.parametrize("what", REFUSED)
@pytest.mark.parametrize("quic", [False, True], ids=["not over QUIC", "over QUIC"])
def test_refused(what: str, quic: bool) -> None:
    change, alert = REFUSED[what]
    duel = Duel.of(quic=quic)
    duel.refuses(change(ClientHello.decode(duel.next.message)).encode(), alert)


@pytest.mark.parametrize("what", REFUSED)
def test_refused_after_a_retry_too(what: str) -> None:
    """Whatever the alert is: the second ClientHello differs from the first in more than the retry asked for."""
    change, alert = REFUSED[what]
    duel = Duel.of(retry=True).until(Role.SERVER, HandshakeType.CLIENT_HELLO, 2)
    if alert in (A.HANDSHAKE_FAILURE, A.MISSING_EXTENSION):
        alert = duel_alert(what)
    duel.refuses(change(ClientHello.decode(duel.next.message)).encode(), alert)


def duel_alert(what: str) -> AlertDescription:
    """What could not be negotiated is settled by then: that it is gone is a change that is not allowed."""
    required = {
        "signature_algorithms is missing (4.2.3, 9.2)",
        "supported_groups is missing (9.2)",
        "key_share is missing (9.2)",
        "no key exchange at all (9.2)",
        "psk_key_exchange_modes is missing (4.2.9)",
        "a PSK with groups but no shares (9.2)",
        "a PSK with shares but no groups (9.2)",
    }
    return A.MISSING_EXTENSION if what in required else A.ILLEGAL_PARAMETER


def raw(*extensions: tuple[int, bytes]) -> Callable[[ClientHello], bytes]:
    """A hello whose extension block is this: for blocks that our encoder does not make."""

    def make(hello: ClientHello) -> bytes:
        block = b"".join([kind.to_bytes(2, "big") + vector16(body) for kind, body in extensions])
        return raw_block(vector16(block))(hello)

    return make


def raw_block(block: bytes) -> Callable[[ClientHello], bytes]:
    def make(hello: ClientHello) -> bytes:
        body = replace(hello, extensions={}).encode()[4:-2]
        return encode_message(HandshakeType.CLIENT_HELLO, body + block)

    return make


MALFORMED: dict[str, tuple[Callable[[ClientHello], bytes], AlertDescription]] = {
    "an extension twice (4.2)": (raw((X.PADDING, b""), (X.PADDING, b"")), A.ILLEGAL_PARAMETER),
    "an unknown extension twice (4.2)": (raw((GREASE, b""), (GREASE, b"1")), A.ILLEGAL_PARAMETER),
    "half an extension": (raw_block(b"\0\3\0\0\0"), A.DECODE_ERROR),
    "an extension longer than its block": (raw_block(b"\0\4\x2a\x2a\0\1"), A.DECODE_ERROR),
    "a block longer than the message": (raw_block(b"\0\5\x2a\x2a\0\0"), A.DECODE_ERROR),
    "bytes behind the block": (raw_block(b"\0\4\x2a\x2a\0\0\0"), A.DECODE_ERROR),
    "a block of one byte": (raw_block(b"\0"), A.DECODE_ERROR),
    "an empty message": (lambda _hello: b"\1\0\0\0", A.DECODE_ERROR),
    "an odd number of bytes in cipher_suites": (
        lambda hello: encode_message(
            HandshakeType.CLIENT_HELLO, hello.encode()[4:38] + vector8(b"") + vector16(b"\x13\1\x13") + vector8(b"\0")
        ),
        A.DECODE_ERROR,
    ),
}


@pytest.mark.parametrize("what", MALFORMED)
def test_malformed(what: str) -> None:
    make, alert = MALFORMED[what]
    duel = Duel.of()
    duel.refuses(make(ClientHello.decode(duel.next.message)), alert)


def test_transport_parameters_belong_to_quic() -> None:
    """RFC 9001 section 8.2, both ways."""
    missing, unasked = with_extensions({X.QUIC_TRANSPORT_PARAMETERS: None}), {X.QUIC_TRANSPORT_PARAMETERS: b""}
    duel = Duel.of(quic=True)
    duel.refuses(missing(ClientHello.decode(duel.next.message)).encode(), A.MISSING_EXTENSION)
    duel = Duel.of()
    duel.refuses(with_extensions(unasked)(ClientHello.decode(duel.next.message)).encode(), A.UNSUPPORTED_EXTENSION)


def test_no_compatibility_mode_over_quic() -> None:
    """RFC 9001 section 8.4."""
    Duel.of(quic=True, client={"compatibility_mode": True}).fails(A.ILLEGAL_PARAMETER)
    duel = Duel.of(client={"compatibility_mode": True})
    assert len(ClientHello.decode(duel.next.message).legacy_session_id) == 32
    assert duel.run().is_complete


def arranged(additions: Extensions) -> dict[str, object]:
    """Client parameters that add these extensions: both sides see them, so the handshake can go on."""

    def arrange(_place: HandshakeType | str, extensions: Extensions) -> Extensions:
        merged = {**extensions, **additions}
        last = merged.pop(X.PRE_SHARED_KEY, None)  # section 4.2.11
        return merged if last is None else {**merged, X.PRE_SHARED_KEY: last}

    return {"arrange": arrange}


IGNORED: dict[str, Extensions] = {
    "an unknown extension (4.2)": {GREASE: b"anything"},
    "empty unknown extensions (RFC 8701)": {GREASE: b"", 0xFAFA: b""},
    "other versions (4.2.1)": {X.SUPPORTED_VERSIONS: b"\x08\x2a\x2a\x03\x03\x03\x04\x7f\x1c"},
    "unknown groups and schemes": {
        X.SUPPORTED_GROUPS: encode_uint16_list((GREASE, 0x0100, NamedGroup.X25519, GREASE)),
        X.SIGNATURE_ALGORITHMS: encode_uint16_list((GREASE, 0x0403)),
    },
    "a name of another type (RFC 6066 3)": {X.SERVER_NAME: server_name((7, b"\0?"), (0, b"server.example"))},
    "other protocols (RFC 7301 3.1)": {X.APPLICATION_LAYER_PROTOCOL_NEGOTIATION: encode_alpn((b"\x2a\x2a", b"h3"))},
    "what it could ask for but we don't give": {
        X.MAX_FRAGMENT_LENGTH: b"\1",
        X.STATUS_REQUEST: b"\1\0\0\0\0",
        X.SIGNED_CERTIFICATE_TIMESTAMP: b"",
        X.COMPRESS_CERTIFICATE: b"\2\0\1",
        X.RECORD_SIZE_LIMIT: b"\x40\1",
        X.POST_HANDSHAKE_AUTH: b"",
        X.CERTIFICATE_AUTHORITIES: b"\0\3\0\1x",
        X.SIGNATURE_ALGORITHMS_CERT: b"\0\2\4\1",
        X.PADDING: bytes(100),
    },
    "PSKs that we don't know (4.2.11)": {X.PSK_KEY_EXCHANGE_MODES: b"\2\0\1", X.PRE_SHARED_KEY: psk()},
    "a cookie from nowhere (4.2.2)": {X.COOKIE: b"\0\1c"},
}


@pytest.mark.parametrize("what", IGNORED)
def test_ignored(what: str) -> None:
    """Section 4.1.2: "Servers MUST ignore unrecognized extensions", and the like for what they don't support."""
    assert Duel.of(client=arranged(IGNORED[what])).run().is_complete


def test_a_name_of_another_type_only() -> None:
    """RFC 6066 section 3: there may be names that are no host_name."""
    duel = Duel.of(client=arranged({X.SERVER_NAME: server_name((7, b"?"))})).run()
    assert duel.server.complete is not None
    assert duel.server.complete.server_name is None


@pytest.mark.parametrize("version", [0x0301, 0x0302, 0x0304, 0x2A2A], ids=hex)
def test_legacy_version_is_ignored(version: int) -> None:
    """Section 4.2.1: with supported_versions, legacy_version MUST NOT be used for the negotiation."""
    duel = Duel.of()
    duel.change(lambda message: replace(ClientHello.decode(message), legacy_version=version).encode())
    duel.deliver()
    assert duel.next.to is Role.CLIENT


def test_cipher_suites_that_we_do_not_know() -> None:
    duel = Duel.of()
    duel.change(lambda message: replace(ClientHello.decode(message), cipher_suites=(GREASE, 0x00FF, 0x1301)).encode())
    duel.deliver()
    assert duel.next.kind == HandshakeType.SERVER_HELLO


@pytest.mark.parametrize("retry", [False, True])
def test_early_data_is_to_be_skipped(retry: bool) -> None:
    hellos = iter(({X.EARLY_DATA: b""}, {X.EARLY_DATA: None}))

    def arrange(_place: HandshakeType | str, extensions: Extensions) -> Extensions:
        return {kind: body for kind, body in {**extensions, **next(hellos)}.items() if body is not None}

    duel = Duel.of(retry=retry, client={"arrange": arrange}).run()
    assert duel.is_complete
    assert duel.server.told(SkipEarlyData) == [SkipEarlyData(1 << 14)]
    assert not Duel.of().run().server.told(SkipEarlyData)


# The second ClientHello, section 4.1.2: "the client MUST send the same ClientHello without modification, except […]"

ALTERED: dict[str, Change] = {
    "another random": with_fields(random=bytes(32)),
    "another legacy_version": with_fields(legacy_version=0x0302),
    "another legacy_session_id": with_fields(legacy_session_id=bytes(32)),
    "fewer cipher suites": with_fields(cipher_suites=(0x1301,)),
    "another server name": with_extensions({X.SERVER_NAME: encode_server_name("other.example")}),
    "no server name": with_extensions({X.SERVER_NAME: None}),
    "another ALPN list": with_extensions({X.APPLICATION_LAYER_PROTOCOL_NEGOTIATION: encode_alpn((b"smb",))}),
    "another extension": with_extensions({0xFF77: b""}),
    "another order": lambda hello: replace(hello, extensions=dict(reversed(hello.extensions.items()))),
    "early data": with_extensions({X.EARLY_DATA: b""}),
    "a cookie that was not given": with_extensions({X.COOKIE: b"\0\1c"}),
    "no share": with_extensions({X.KEY_SHARE: b"\0\0"}),
    "a share of another group": with_extensions({X.KEY_SHARE: encode_key_shares(((NamedGroup.SECP256R1, bytes(65)),))}),
    "a share too many": with_extensions(
        {X.KEY_SHARE: encode_key_shares(((NamedGroup.X25519, bytes(32)), (NamedGroup.SECP256R1, bytes(65))))}
    ),
}


@pytest.mark.parametrize("what", ALTERED)
def test_a_second_client_hello_that_is_altered(what: str) -> None:
    duel = Duel.of(retry=True).until(Role.SERVER, HandshakeType.CLIENT_HELLO, 2)
    duel.refuses(ALTERED[what](ClientHello.decode(duel.next.message)).encode(), A.ILLEGAL_PARAMETER)


def test_a_second_client_hello_that_is_the_first() -> None:
    duel = Duel.of(retry=True)
    first = duel.next.message
    duel.until(Role.SERVER, HandshakeType.CLIENT_HELLO, 2).refuses(first, A.ILLEGAL_PARAMETER)


def test_padding_may_change_after_a_retry() -> None:
    padded = iter((bytes(3), bytes(9)))

    def arrange(_place: HandshakeType | str, extensions: Extensions) -> Extensions:
        return {**extensions, X.PADDING: next(padded)}

    assert Duel.of(retry=True, client={"arrange": arrange}).run().is_complete


def giving_a_cookie(place: HandshakeType | str, extensions: Extensions) -> Extensions:
    return {**extensions, X.COOKIE: b"\0\6cookie"} if place == HELLO_RETRY_REQUEST else extensions


def test_the_cookie_comes_back() -> None:
    """Section 4.2.2."""
    assert Duel.of(retry=True, server={"arrange": giving_a_cookie}).run().is_complete


@pytest.mark.parametrize("cookie", [None, b"\0\6cooked"], ids=["none", "another"])
def test_the_cookie_does_not_come_back(cookie: bytes | None) -> None:
    duel = Duel.of(retry=True, server={"arrange": giving_a_cookie}).until(Role.SERVER, HandshakeType.CLIENT_HELLO, 2)
    change = with_extensions({X.COOKIE: cookie})
    duel.refuses(change(ClientHello.decode(duel.next.message)).encode(), A.ILLEGAL_PARAMETER)


def test_what_our_client_sends_first() -> None:
    """A kernel that routes by server name and ALPN sees only the first packet: they come before the shares."""
    groups = (NamedGroup.X25519MLKEM768, NamedGroup.X25519)
    hello = ClientHello.decode(Duel.of(quic=True, client={"key_shares": groups}).next.message)
    assert list(hello.extensions)[1:3] == [X.SERVER_NAME, X.APPLICATION_LAYER_PROTOCOL_NEGOTIATION]  # behind GREASE
    assert list(hello.extensions)[-1] == X.KEY_SHARE
    assert hello.legacy_session_id == b""
    assert hello.legacy_version == 0x0303


def test_our_client_offers_what_section_9_1_demands() -> None:
    parameters = ClientParameters("entry", trust)
    assert 0x1301 in parameters.cipher_suites
    assert NamedGroup.SECP256R1 in parameters.groups
    assert {0x0401, 0x0804, 0x0403} <= set(parameters.signature_schemes)
    assert identity().chain
