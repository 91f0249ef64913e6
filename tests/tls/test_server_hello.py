"""What a client refuses in a ServerHello and in a HelloRetryRequest, and with which alert.

The RFC is 8446 where a section is given without one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from quic_tlshd.tls.alert import AlertDescription
from quic_tlshd.tls.codec import vector16
from quic_tlshd.tls.extensions import (
    Extensions,
    encode_alpn,
    encode_key_share_entry,
    encode_uint16_list,
)
from quic_tlshd.tls.iana import ExtensionType as X
from quic_tlshd.tls.iana import HandshakeType, NamedGroup
from quic_tlshd.tls.messages import (
    HELLO_RETRY_REQUEST_RANDOM,
    ClientHello,
    ServerHello,
    encode_message,
)
from tests.tls.playbook import Duel, Role

A = AlertDescription
Change = Callable[[ServerHello], ServerHello]


def with_extensions(extensions: dict[int, bytes | None]) -> Change:
    """Set these extensions; None removes one."""

    def change(hello: ServerHello) -> ServerHello:
        merged = {**hello.extensions, **extensions}
        return replace(hello, extensions={kind: body for kind, body in merged.items() if body is not None})

    return change


def with_fields(**fields: object) -> Change:
    return lambda hello: replace(hello, **fields)


def sentinel(version: int) -> Change:
    """A TLS 1.2 ServerHello of a server that could do better, or says so (section 4.1.3)."""
    return with_fields(random=bytes(24) + b"DOWNGRD" + bytes((version,)), extensions={})


IN_BOTH: dict[str, tuple[Change, AlertDescription]] = {
    "no supported_versions: TLS 1.2 (4.2.1)": (with_extensions({X.SUPPORTED_VERSIONS: None}), A.PROTOCOL_VERSION),
    "TLS 1.2 with what TLS 1.3 has in other messages (D.1)": (
        with_extensions(
            {
                X.SUPPORTED_VERSIONS: None,
                X.KEY_SHARE: None,
                X.SERVER_NAME: b"",
                X.APPLICATION_LAYER_PROTOCOL_NEGOTIATION: encode_alpn((b"h3",)),
                X.STATUS_REQUEST: b"",
            }
        ),
        A.PROTOCOL_VERSION,
    ),
    "no extensions at all: TLS 1.2": (with_fields(extensions={}), A.PROTOCOL_VERSION),
    "TLS 1.2 in supported_versions (4.2.1)": (
        with_extensions({X.SUPPORTED_VERSIONS: b"\3\3"}),
        A.ILLEGAL_PARAMETER,
    ),
    "an unknown version in supported_versions (4.2.1)": (
        with_extensions({X.SUPPORTED_VERSIONS: b"\x7f\x1c"}),
        A.ILLEGAL_PARAMETER,
    ),
    "supported_versions in the client's form": (with_extensions({X.SUPPORTED_VERSIONS: b"\2\3\4"}), A.DECODE_ERROR),
    "supported_versions is empty": (with_extensions({X.SUPPORTED_VERSIONS: b""}), A.DECODE_ERROR),
    "legacy_version is TLS 1.3's (RFC 9846 4.1.3)": (with_fields(legacy_version=0x0304), A.PROTOCOL_VERSION),
    "legacy_version is TLS 1.0's (RFC 9846 4.1.3)": (with_fields(legacy_version=0x0301), A.PROTOCOL_VERSION),
    "legacy_version is SSL 3.0's (D.5)": (with_fields(legacy_version=0x0300), A.PROTOCOL_VERSION),
    "a session id that is not ours (4.1.3)": (with_fields(legacy_session_id_echo=bytes(32)), A.ILLEGAL_PARAMETER),
    "a session id that is too long (4.1.3)": (with_fields(legacy_session_id_echo=bytes(33)), A.DECODE_ERROR),
    "compression (4.1.3)": (with_fields(legacy_compression_method=1), A.ILLEGAL_PARAMETER),
    "a cipher suite that was not offered (4.1.3)": (with_fields(cipher_suite=0x1305), A.ILLEGAL_PARAMETER),
    "a cipher suite of TLS 1.2 (4.1.3)": (with_fields(cipher_suite=0xC02B), A.ILLEGAL_PARAMETER),
    "an unknown extension (4.2)": (with_extensions({0x2A2A: b""}), A.UNSUPPORTED_EXTENSION),
    "an extension of EncryptedExtensions (4.2)": (
        with_extensions({X.APPLICATION_LAYER_PROTOCOL_NEGOTIATION: encode_alpn((b"h3",))}),
        A.ILLEGAL_PARAMETER,
    ),
    "a key share that is cut short": (with_extensions({X.KEY_SHARE: b"\0"}), A.DECODE_ERROR),
    "an empty key share": (with_extensions({X.KEY_SHARE: b""}), A.DECODE_ERROR),
}

IN_SERVER_HELLO: dict[str, tuple[Change, AlertDescription]] = {
    **IN_BOTH,
    "the sentinel of TLS 1.2 (4.1.3)": (sentinel(1), A.ILLEGAL_PARAMETER),
    "the sentinel of TLS 1.1 (4.1.3)": (sentinel(0), A.ILLEGAL_PARAMETER),
    "no sentinel (4.1.3)": (sentinel(2), A.PROTOCOL_VERSION),
    "no key_share (4.2.8)": (with_extensions({X.KEY_SHARE: None}), A.MISSING_EXTENSION),
    "a cookie (4.2)": (with_extensions({X.COOKIE: b"\0\1c"}), A.ILLEGAL_PARAMETER),
    "a PSK that was not offered (4.2)": (with_extensions({X.PRE_SHARED_KEY: b"\0\0"}), A.UNSUPPORTED_EXTENSION),
    "supported_groups (4.2)": (
        with_extensions({X.SUPPORTED_GROUPS: encode_uint16_list((NamedGroup.X25519,))}),
        A.ILLEGAL_PARAMETER,
    ),
    "a share of a group that was offered without one (4.2.8)": (
        with_extensions({X.KEY_SHARE: encode_key_share_entry(NamedGroup.SECP256R1, bytes(65))}),
        A.ILLEGAL_PARAMETER,
    ),
    "a share of an unknown group (4.2.8)": (
        with_extensions({X.KEY_SHARE: encode_key_share_entry(0x2A2A, b"x")}),
        A.ILLEGAL_PARAMETER,
    ),
    "a key share of no bytes (4.2.8)": (
        with_extensions({X.KEY_SHARE: encode_key_share_entry(NamedGroup.X25519, b"")}),
        A.DECODE_ERROR,
    ),
    "a key share with more behind it": (
        with_extensions({X.KEY_SHARE: encode_key_share_entry(NamedGroup.X25519, bytes(32)) + b"\0"}),
        A.DECODE_ERROR,
    ),
    "a list of key shares": (
        with_extensions({X.KEY_SHARE: vector16(encode_key_share_entry(NamedGroup.X25519, bytes(32)))}),
        A.DECODE_ERROR,
    ),
}

IN_HELLO_RETRY_REQUEST: dict[str, tuple[Change, AlertDescription]] = {
    **{what: case for what, case in IN_BOTH.items() if "key share" not in what},
    "nothing would change (4.1.4)": (with_extensions({X.KEY_SHARE: None}), A.ILLEGAL_PARAMETER),
    "a group that was not offered (4.2.8)": (with_extensions({X.KEY_SHARE: b"\1\0"}), A.ILLEGAL_PARAMETER),
    "a group that has a share already (4.2.8)": (with_extensions({X.KEY_SHARE: b"\0\x18"}), A.ILLEGAL_PARAMETER),
    "a key share instead of a group": (
        with_extensions({X.KEY_SHARE: encode_key_share_entry(NamedGroup.X25519, bytes(32))}),
        A.DECODE_ERROR,
    ),
    "an empty cookie (4.2.2)": (with_extensions({X.COOKIE: b"\0\0"}), A.DECODE_ERROR),
    "a cookie that is cut short (4.2.2)": (with_extensions({X.COOKIE: b"\0\2c"}), A.DECODE_ERROR),
    "bytes behind the cookie (4.2.2)": (with_extensions({X.COOKIE: b"\0\1cc"}), A.DECODE_ERROR),
    "a PSK (4.2)": (with_extensions({X.PRE_SHARED_KEY: b"\0\0"}), A.ILLEGAL_PARAMETER),
}


@pytest.mark.parametrize("what", IN_SERVER_HELLO)
@pytest.mark.parametrize("retry", [False, True], ids=["at once", "after a retry"])
def test_a_server_hello_is_refused(what: str, retry: bool) -> None:
    change, alert = IN_SERVER_HELLO[what]
    duel = Duel.of(quic=True, retry=retry).until(Role.CLIENT, HandshakeType.SERVER_HELLO, 2 if retry else 1)
    duel.refuses(change(ServerHello.decode(duel.next.message)).encode(), alert)


@pytest.mark.parametrize("what", IN_HELLO_RETRY_REQUEST)
def test_a_hello_retry_request_is_refused(what: str) -> None:
    change, alert = IN_HELLO_RETRY_REQUEST[what]
    duel = Duel.of(quic=True, retry=True).until(Role.CLIENT, HandshakeType.SERVER_HELLO)
    duel.refuses(change(ServerHello.decode(duel.next.message)).encode(), alert)


def raw_block(block: bytes) -> Callable[[bytes], bytes]:
    """A hello whose extension block is this: for blocks that our encoder does not make."""

    def change(message: bytes) -> bytes:
        hello = replace(ServerHello.decode(message), extensions={}).encode()
        return encode_message(HandshakeType.SERVER_HELLO, hello[4:-2] + block)

    return change


MALFORMED: dict[str, tuple[Callable[[bytes], bytes], AlertDescription]] = {
    "an extension twice (4.2)": (raw_block(b"\0\x0c\0\x2b\0\2\3\4\0\x2b\0\2\3\4"), A.ILLEGAL_PARAMETER),
    "half an extension": (raw_block(b"\0\3\0\x2b\0"), A.DECODE_ERROR),
    "bytes behind the block": (raw_block(b"\0\6\0\x2b\0\2\3\4\0"), A.DECODE_ERROR),
    "an empty message": (lambda _message: b"\2\0\0\0", A.DECODE_ERROR),
    "only a random": (lambda message: encode_message(HandshakeType.SERVER_HELLO, message[4:38]), A.DECODE_ERROR),
    "no compression method": (
        lambda message: encode_message(HandshakeType.SERVER_HELLO, message[4:41]),
        A.DECODE_ERROR,
    ),
}


@pytest.mark.parametrize("what", MALFORMED)
def test_malformed(what: str) -> None:
    change, alert = MALFORMED[what]
    duel = Duel.of().until(Role.CLIENT, HandshakeType.SERVER_HELLO)
    duel.refuses(change(duel.next.message), alert)


def test_the_session_id_has_to_come_back() -> None:
    """Section 4.1.3; in compatibility mode (appendix D.4) there is one."""
    duel = Duel.of(client={"compatibility_mode": True}).until(Role.CLIENT, HandshakeType.SERVER_HELLO)
    hello = ServerHello.decode(duel.next.message)
    assert len(hello.legacy_session_id_echo) == 32
    duel.refuses(replace(hello, legacy_session_id_echo=b"").encode(), A.ILLEGAL_PARAMETER)


def test_the_retry_binds_the_cipher_suite() -> None:
    """Section 4.1.4."""
    duel = Duel.of(retry=True).until(Role.CLIENT, HandshakeType.SERVER_HELLO, 2)
    duel.refuses(replace(ServerHello.decode(duel.next.message), cipher_suite=0x1303).encode(), A.ILLEGAL_PARAMETER)


def test_the_retry_binds_the_group() -> None:
    """Section 4.2.8: the share of the first ClientHello does not count any more."""
    duel = Duel.of(retry=True).until(Role.CLIENT, HandshakeType.SERVER_HELLO, 2)
    change = with_extensions({X.KEY_SHARE: encode_key_share_entry(NamedGroup.SECP384R1, bytes(97))})
    duel.refuses(change(ServerHello.decode(duel.next.message)).encode(), A.ILLEGAL_PARAMETER)


def test_a_retry_for_a_cookie_alone() -> None:
    """Section 4.1.4: the ClientHello changes by the cookie, and the first shares stay good."""
    duel = Duel.of()
    first = ClientHello.decode(duel.next.message)
    request = ServerHello(HELLO_RETRY_REQUEST_RANDOM, b"", 0x1301, {X.SUPPORTED_VERSIONS: b"\3\4", X.COOKIE: b"\0\1c"})
    duel.until(Role.CLIENT, HandshakeType.SERVER_HELLO)
    answer = duel.next.message
    duel.change(lambda _message: request.encode()).deliver()
    duel.wire.rotate(1)
    second = ClientHello.decode(duel.next.message)
    assert second.extensions == {**first.extensions, X.COOKIE: b"\0\1c"}
    assert second.random == first.random
    duel.client.receive(duel.next.level, answer)
    assert len(duel.client.secrets) == 2


def test_the_cookie_comes_with_a_new_share() -> None:
    def arrange(place: HandshakeType | str, extensions: Extensions) -> Extensions:
        return {**extensions, X.COOKIE: b"\0\1c"} if place == "HelloRetryRequest" else extensions

    duel = Duel.of(retry=True, server={"arrange": arrange}).until(Role.SERVER, HandshakeType.CLIENT_HELLO, 2)
    second = ClientHello.decode(duel.next.message)
    assert second.extensions[X.COOKIE] == b"\0\1c"
