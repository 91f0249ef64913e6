"""GREASE, RFC 8701: what our client sends without a meaning, and that no server may make one of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from quic_tlshd.tls.alert import AlertDescription as A
from quic_tlshd.tls.codec import vector16
from quic_tlshd.tls.extensions import (
    GREASE,
    decode_key_shares,
    decode_psk_key_exchange_modes,
    decode_supported_versions,
    decode_uint16_list,
    encode_key_share_entry,
)
from quic_tlshd.tls.iana import ExtensionType as X
from quic_tlshd.tls.iana import HandshakeType as H
from quic_tlshd.tls.messages import (
    Certificate,
    CertificateVerify,
    ClientHello,
    EncryptedExtensions,
    ServerHello,
)
from quic_tlshd.tls.parameters import Psk
from tests.tls.playbook import Duel, Role

MODES = (0x0B, 0x2A, 0x49, 0x68, 0x87, 0xA6, 0xC5, 0xE4)
PSK = Psk(b"identity", bytes(32))


def meaningless(hello: ClientHello) -> dict[str, int]:
    """The hello's GREASE by place: it comes first in every list."""
    extensions = hello.extensions
    found = {
        "cipher suite": hello.cipher_suites[0],
        "version": decode_supported_versions(extensions[X.SUPPORTED_VERSIONS])[0],
        "group": decode_uint16_list(extensions[X.SUPPORTED_GROUPS], "")[0],
        "scheme": decode_uint16_list(extensions[X.SIGNATURE_ALGORITHMS], "")[0],
        "extension": next(kind for kind in extensions if kind in GREASE),
    }
    assert set(found.values()) <= set(GREASE)
    return found


def test_every_list_has_some_and_no_two_handshakes_the_same() -> None:
    seen: dict[str, set[int]] = {}
    bodies = set()
    for _ in range(100):
        hello = ClientHello.decode(Duel.of(client={"psks": (PSK,)}).next.message)
        found = meaningless(hello)
        share = next(iter(decode_key_shares(hello.extensions[X.KEY_SHARE])))
        assert share == found["group"]
        found["mode"] = decode_psk_key_exchange_modes(hello.extensions[X.PSK_KEY_EXCHANGE_MODES])[0]
        for place, value in found.items():
            seen.setdefault(place, set()).add(value)
        bodies.add(len(hello.extensions[found["extension"]]))
        assert list(hello.extensions)[-1] == X.PRE_SHARED_KEY
    assert seen.pop("mode") == set(MODES)
    assert all(len(values) > 8 for values in seen.values())
    assert len(bodies) > 8


def test_it_can_be_left_out() -> None:
    hello = ClientHello.decode(Duel.of(client={"grease": False}).next.message)
    assert not {*hello.cipher_suites, *hello.extensions} & set(GREASE)


def test_a_retry_repeats_it() -> None:
    """RFC 8446 section 4.1.2: nothing changes but what the retry asks for, which is the shares."""
    duel = Duel.of(retry=True)
    first = ClientHello.decode(duel.next.message)
    second = ClientHello.decode(duel.until(Role.SERVER, H.CLIENT_HELLO, 2).next.message)
    assert meaningless(second) == meaningless(first)
    assert second == replace(first, extensions={**first.extensions, X.KEY_SHARE: second.extensions[X.KEY_SHARE]})
    assert not set(decode_key_shares(second.extensions[X.KEY_SHARE])) & set(GREASE)
    assert duel.run().is_complete


Change = Callable[[bytes, dict[str, int]], bytes]


def in_server_hello(change: Callable[[ServerHello, dict[str, int]], ServerHello]) -> Change:
    return lambda message, offered: change(ServerHello.decode(message), offered).encode()


def with_extension(hello: ServerHello, kind: int, body: bytes) -> ServerHello:
    return replace(hello, extensions={**hello.extensions, kind: body})


SELECTED: dict[str, tuple[H, bool, Change, A]] = {
    "the cipher suite": (
        H.SERVER_HELLO,
        False,
        in_server_hello(lambda hello, offered: replace(hello, cipher_suite=offered["cipher suite"])),
        A.ILLEGAL_PARAMETER,
    ),
    "the version": (
        H.SERVER_HELLO,
        False,
        in_server_hello(
            lambda hello, offered: with_extension(hello, X.SUPPORTED_VERSIONS, offered["version"].to_bytes(2, "big"))
        ),
        A.ILLEGAL_PARAMETER,
    ),
    "the group": (
        H.SERVER_HELLO,
        False,
        in_server_hello(
            lambda hello, offered: with_extension(hello, X.KEY_SHARE, encode_key_share_entry(offered["group"], b"x"))
        ),
        A.ILLEGAL_PARAMETER,
    ),
    "the group of a retry": (
        H.SERVER_HELLO,
        True,
        in_server_hello(lambda hello, offered: with_extension(hello, X.KEY_SHARE, offered["group"].to_bytes(2, "big"))),
        A.ILLEGAL_PARAMETER,
    ),
    "an extension of a retry": (
        H.SERVER_HELLO,
        True,
        in_server_hello(lambda hello, offered: with_extension(hello, offered["extension"], b"")),
        A.UNSUPPORTED_EXTENSION,
    ),
    "an extension of the ServerHello": (
        H.SERVER_HELLO,
        False,
        in_server_hello(lambda hello, offered: with_extension(hello, offered["extension"], b"")),
        A.UNSUPPORTED_EXTENSION,
    ),
    "an extension of the EncryptedExtensions": (
        H.ENCRYPTED_EXTENSIONS,
        False,
        lambda message, offered: EncryptedExtensions(
            {**EncryptedExtensions.decode(message).extensions, offered["extension"]: b""}
        ).encode(),
        A.UNSUPPORTED_EXTENSION,
    ),
    "an extension of a certificate": (
        H.CERTIFICATE,
        False,
        lambda message, offered: Certificate(
            tuple(
                replace(entry, extensions={offered["extension"]: b""})
                for entry in Certificate.decode(message).certificate_list
            )
        ).encode(),
        A.UNSUPPORTED_EXTENSION,
    ),
    "the signature scheme": (
        H.CERTIFICATE_VERIFY,
        False,
        lambda message, offered: replace(CertificateVerify.decode(message), algorithm=offered["scheme"]).encode(),
        A.ILLEGAL_PARAMETER,
    ),
    "a protocol": (
        H.ENCRYPTED_EXTENSIONS,
        False,
        lambda message, offered: EncryptedExtensions(
            {
                **EncryptedExtensions.decode(message).extensions,
                X.APPLICATION_LAYER_PROTOCOL_NEGOTIATION: vector16(b"\2\x2a\x2a"),
            }
        ).encode(),
        A.ILLEGAL_PARAMETER,
    ),
}


@pytest.mark.parametrize("what", SELECTED)
def test_a_server_that_selects_it(what: str) -> None:
    """RFC 8701 section 3.1: "Clients MUST reject GREASE values when negotiated by the server"."""
    kind, retry, change, alert = SELECTED[what]
    duel = Duel.of(retry=retry)
    offered = meaningless(ClientHello.decode(duel.next.message))
    duel.until(Role.CLIENT, kind)
    duel.refuses(change(duel.next.message, offered), alert)
