"""External pre-shared keys, RFC 8446 section 4.2.11, in both roles."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from quic_tlshd.tls.alert import AlertDescription as A
from quic_tlshd.tls.events import Sign
from quic_tlshd.tls.extensions import (
    decode_offered_psks,
    encode_key_share_entry,
    encode_offered_psks,
)
from quic_tlshd.tls.iana import CipherSuite, HandshakeType, NamedGroup, PskKeyExchangeMode
from quic_tlshd.tls.iana import ExtensionType as X
from quic_tlshd.tls.key_exchange import generate
from quic_tlshd.tls.messages import ClientHello, ServerHello
from quic_tlshd.tls.parameters import Direction, Level, Psk
from tests.tls.playbook import Duel, Role

SHA256 = Psk(b"NVMe1R01 host subsystem", b"k" * 32)
SHA384 = Psk(b"NVMe1R02 host subsystem", b"K" * 48, "sha384")
STRANGER = Psk(b"nobody knows me", b"s" * 32)
DHE, KE = PskKeyExchangeMode.PSK_DHE_KE, PskKeyExchangeMode.PSK_KE
ONLY_PSK = {"verify_server": None}


def duel(
    *,
    offered: tuple[Psk, ...] = (SHA256,),
    known: tuple[Psk, ...] = (SHA256, SHA384),
    modes: tuple[PskKeyExchangeMode, ...] = (DHE,),
    client: dict[str, Any] | None = None,
    certificates: bool = False,
    **options: Any,
) -> Duel:
    """Client and server that have nothing but PSKs, unless the server has certificates too."""
    choice = options.pop("choice", {})
    return Duel.of(
        client={**ONLY_PSK, "psks": offered, "psk_modes": modes, **(client or {})},
        server={"find_psk": True},
        choice=choice if certificates else {"certificates": (), **choice},
        server_psks=known,
        **options,
    )


def assert_agreed(done: Duel, psk: Psk, group: NamedGroup | None) -> None:
    assert done.is_complete
    for party in (done.client, done.server):
        assert party.complete is not None
        assert party.complete.psk_identity == psk.identity
        assert party.complete.group == group
        assert party.complete.cipher_suite.hash == psk.hash_name
        assert party.complete.signature_scheme is None
        assert not party.told(Sign)
    for level in (Level.HANDSHAKE, Level.APP):
        for direction, other in ((Direction.SEND, Direction.RECEIVE), (Direction.RECEIVE, Direction.SEND)):
            assert done.client.secrets[level, direction] == done.server.secrets[level, other]


@pytest.mark.parametrize("portion", [None, 1])
@pytest.mark.parametrize("quic", [False, True])
@pytest.mark.parametrize("retry", [False, True])
@pytest.mark.parametrize("psk", [SHA256, SHA384], ids=lambda psk: psk.hash_name)
def test_with_dhe(psk: Psk, retry: bool, quic: bool, portion: int | None) -> None:
    done = duel(offered=(psk,), retry=retry, quic=quic).run(portion=portion)
    assert_agreed(done, psk, NamedGroup.X25519)


@pytest.mark.parametrize("psk", [SHA256, SHA384], ids=lambda psk: psk.hash_name)
def test_without_dhe(psk: Psk) -> None:
    assert_agreed(duel(offered=(psk,), modes=(KE,)).run(), psk, None)


@pytest.mark.parametrize("modes", [(DHE, KE), (KE, DHE)])
def test_dhe_comes_first_whatever_the_order(modes: tuple[PskKeyExchangeMode, ...]) -> None:
    assert_agreed(duel(modes=modes).run(), SHA256, NamedGroup.X25519)


def test_psk_ke_when_there_is_no_group_in_common() -> None:
    done = duel(modes=(DHE, KE), client={"groups": (NamedGroup.SECP384R1,), "key_shares": (NamedGroup.SECP384R1,)},
                choice={"groups": (NamedGroup.X25519,)}).run()  # fmt: skip
    assert_agreed(done, SHA256, None)


def test_all_identities_go_into_one_hello_and_the_first_that_is_known_is_taken() -> None:
    started = duel(offered=(STRANGER, SHA384, SHA256))
    hello = ClientHello.decode(started.next.message)
    identities, binders = decode_offered_psks(hello.extensions[X.PRE_SHARED_KEY])
    assert [identity for identity, _ in identities] == [STRANGER.identity, SHA384.identity, SHA256.identity]
    assert [len(binder) for binder in binders] == [32, 48, 32]
    assert list(hello.extensions)[-1] == X.PRE_SHARED_KEY
    assert X.SIGNATURE_ALGORITHMS not in hello.extensions
    assert_agreed(started.run(), SHA384, NamedGroup.X25519)


def test_a_retry_drops_what_the_cipher_suite_can_not_use() -> None:
    started = duel(offered=(SHA384, SHA256), known=(SHA256,), retry=True).until(
        Role.SERVER, HandshakeType.CLIENT_HELLO, 2
    )
    identities, _ = decode_offered_psks(ClientHello.decode(started.next.message).extensions[X.PRE_SHARED_KEY])
    assert [identity for identity, _ in identities] == [SHA256.identity]
    assert_agreed(started.run(), SHA256, NamedGroup.X25519)


def test_a_certificate_serves_whom_no_psk_does() -> None:
    done = Duel.of(client={"psks": (STRANGER,)}, server={"find_psk": True}, server_psks=(SHA256,)).run()
    assert done.is_complete
    assert done.client.complete is not None
    assert done.client.complete.psk_identity is None
    assert done.client.complete.peer_chain


def test_a_server_that_asks_for_none_ignores_them() -> None:
    done = Duel.of(client={"psks": (SHA256,)}).run()
    assert done.server.complete is not None
    assert done.server.complete.psk_identity is None


def test_an_unknown_identity() -> None:
    """The administrator wants to know which one."""
    reason = duel(offered=(STRANGER,)).fails(A.UNKNOWN_PSK_IDENTITY).reason
    assert reason.endswith(": 'nobody knows me'")
    many = tuple([replace(STRANGER, identity=b"\n" * 10_000 + bytes([number])) for number in range(3)])
    reason = duel(offered=many).fails(A.UNKNOWN_PSK_IDENTITY).reason
    assert reason.endswith("\\n' and 2 more")
    assert len(reason) < 1000


def test_a_client_without_psks() -> None:
    started = Duel.of(server={"find_psk": True}, choice={"certificates": ()}, server_psks=(SHA256,))
    assert "no PSK" in started.fails(A.HANDSHAKE_FAILURE).reason


def test_another_key_of_that_name() -> None:
    duel(offered=(replace(SHA256, key=b"x" * 32),)).fails(A.DECRYPT_ERROR)


def test_a_changed_hello_breaks_the_binder() -> None:
    started = duel()
    started.change(lambda message: message[:10] + bytes([message[10] ^ 1]) + message[11:])
    started.fails(A.DECRYPT_ERROR)


def test_the_binder_of_the_second_hello_is_checked_too() -> None:
    started = duel(retry=True).until(Role.SERVER, HandshakeType.CLIENT_HELLO, 2)
    started.change(lambda message: message[:-1] + bytes([message[-1] ^ 1]))
    started.fails(A.DECRYPT_ERROR)


def test_the_second_hello_must_keep_the_psk() -> None:
    started = duel(retry=True).until(Role.SERVER, HandshakeType.CLIENT_HELLO, 2)

    def swap(message: bytes) -> bytes:
        hello = ClientHello.decode(message)
        extensions = {**hello.extensions, X.PRE_SHARED_KEY: encode_offered_psks(((b"other", 0),), (bytes(32),))}
        return replace(hello, extensions=extensions).encode()

    started.change(swap).fails(A.ILLEGAL_PARAMETER)


def test_no_mode_in_common() -> None:
    started = duel(modes=(DHE,), client={"groups": (NamedGroup.SECP384R1,), "key_shares": (NamedGroup.SECP384R1,)},
                   choice={"groups": (NamedGroup.X25519,)})  # fmt: skip
    started.fails(A.UNKNOWN_PSK_IDENTITY)


def test_no_cipher_suite_of_the_hash() -> None:
    started = duel(offered=(SHA384,), client={"cipher_suites": (CipherSuite.TLS_AES_128_GCM_SHA256,)})
    started.fails(A.UNKNOWN_PSK_IDENTITY)


def test_a_psk_of_an_unfit_hash_is_passed_over() -> None:
    suites = (CipherSuite.TLS_AES_128_GCM_SHA256,)
    assert_agreed(duel(offered=(SHA384, SHA256), client={"cipher_suites": suites}).run(), SHA256, NamedGroup.X25519)


def server_hello(started: Duel, **changes: Any) -> ServerHello:
    return replace(ServerHello.decode(started.next.message), **changes)


def before_server_hello(**options: Any) -> Duel:
    return duel(**options).until(Role.CLIENT, HandshakeType.SERVER_HELLO)


def test_the_client_knows_what_it_offered() -> None:
    started = before_server_hello()
    hello = server_hello(started)
    changed = replace(hello, extensions={**hello.extensions, X.PRE_SHARED_KEY: b"\0\1"})
    started.refuses(changed.encode(), A.ILLEGAL_PARAMETER)


def test_the_client_knows_which_hash_its_key_is_for() -> None:
    started = before_server_hello()
    started.refuses(
        server_hello(started, cipher_suite=CipherSuite.TLS_AES_256_GCM_SHA384).encode(), A.ILLEGAL_PARAMETER
    )


def test_the_client_wants_dhe_if_it_said_so() -> None:
    started = before_server_hello()
    hello = server_hello(started)
    extensions = {kind: body for kind, body in hello.extensions.items() if kind != X.KEY_SHARE}
    started.refuses(replace(hello, extensions=extensions).encode(), A.ILLEGAL_PARAMETER)


def test_a_client_that_has_only_psks_takes_nothing_else() -> None:
    started = before_server_hello()
    hello = server_hello(started)
    extensions = {X.KEY_SHARE: hello.extensions[X.KEY_SHARE], X.SUPPORTED_VERSIONS: b"\3\4"}
    started.refuses(replace(hello, extensions=extensions).encode(), A.HANDSHAKE_FAILURE)


def test_a_malformed_selection() -> None:
    started = before_server_hello()
    hello = server_hello(started)
    changed = replace(hello, extensions={**hello.extensions, X.PRE_SHARED_KEY: b"\0"})
    started.refuses(changed.encode(), A.DECODE_ERROR)


def test_a_server_that_was_offered_none_selects_none() -> None:
    started = Duel.of().until(Role.CLIENT, HandshakeType.SERVER_HELLO)
    hello = server_hello(started)
    changed = replace(hello, extensions={**hello.extensions, X.PRE_SHARED_KEY: b"\0\0"})
    started.refuses(changed.encode(), A.UNSUPPORTED_EXTENSION)


def test_a_psk_does_not_excuse_a_wrong_share() -> None:
    started = before_server_hello()
    hello = server_hello(started)
    share = encode_key_share_entry(NamedGroup.SECP256R1, generate(NamedGroup.SECP256R1).share)
    changed = replace(hello, extensions={**hello.extensions, X.KEY_SHARE: share})
    started.refuses(changed.encode(), A.ILLEGAL_PARAMETER)


def test_the_key_never_shows() -> None:
    assert "k" * 8 not in repr(SHA256)
