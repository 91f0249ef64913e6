"""Whole handshakes between our client and our server: what both agree on, and the order of what they are told."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from quic_tlshd.tls.alert import AlertDescription, PeerError
from quic_tlshd.tls.events import (
    Complete,
    Event,
    InstallSecret,
    PeerTransportParameters,
    Selected,
    SendMessage,
    Sign,
)
from quic_tlshd.tls.iana import CipherSuite, HandshakeType, NamedGroup, SignatureScheme
from quic_tlshd.tls.key_schedule import Exporter
from quic_tlshd.tls.parameters import (
    DEFAULT_CIPHER_SUITES,
    DEFAULT_GROUPS,
    ClientCertificate,
    Direction,
    Level,
    ServerChoice,
)
from tests.tls.playbook import (
    CLIENT_TRANSPORT_PARAMETERS,
    SERVER_TRANSPORT_PARAMETERS,
    Duel,
    Role,
    distrust,
    identity,
    trust,
)

KEY_TYPES = {
    "p256": SignatureScheme.ECDSA_SECP256R1_SHA256,
    "p384": SignatureScheme.ECDSA_SECP384R1_SHA384,
    "p521": SignatureScheme.ECDSA_SECP521R1_SHA512,
    "ed25519": SignatureScheme.ED25519,
    "ed448": SignatureScheme.ED448,
    "rsa": SignatureScheme.RSA_PSS_RSAE_SHA256,
    "rsa_pss": SignatureScheme.RSA_PSS_PSS_SHA256,
    "mldsa44": SignatureScheme.MLDSA44,
    "mldsa65": SignatureScheme.MLDSA65,
    "mldsa87": SignatureScheme.MLDSA87,
}
CLIENT_CERTIFICATES = {
    "no client certificate": (ClientCertificate.NONE, False),
    "requested and shown": (ClientCertificate.REQUEST, True),
    "requested and not shown": (ClientCertificate.REQUEST, False),
    "required": (ClientCertificate.REQUIRE, True),
}


def outline(events: list[Event]) -> list[str]:
    """The events by name, for messages and secrets with the level and, for secrets, the direction."""
    lines = []
    for event in events:
        match event:
            case SendMessage(level):
                lines.append(f"send {level.name}")
            case InstallSecret(level, direction):
                lines.append(f"install {level.name} {direction.name}")
            case _:
                lines.append(type(event).__name__)
    return lines


def combinations() -> Iterator[tuple[CipherSuite, NamedGroup, str, str]]:
    """Every two of cipher suite, group, kind of key and client certificate at least once: what one of them does to the
    others is the same whatever the rest is."""
    for at, group in enumerate(DEFAULT_GROUPS):
        for key_type in KEY_TYPES:
            suite = DEFAULT_CIPHER_SUITES[(at + list(KEY_TYPES).index(key_type)) % len(DEFAULT_CIPHER_SUITES)]
            yield suite, group, key_type, list(CLIENT_CERTIFICATES)[at % len(CLIENT_CERTIFICATES)]
    for suite in DEFAULT_CIPHER_SUITES:
        for client_certificate in CLIENT_CERTIFICATES:
            yield suite, NamedGroup.X25519, "p256", client_certificate
    for key_type in KEY_TYPES:
        for client_certificate in CLIENT_CERTIFICATES:
            yield DEFAULT_CIPHER_SUITES[0], NamedGroup.X25519, key_type, client_certificate


@pytest.mark.parametrize(("suite", "group", "key_type", "client_certificate"), sorted(set(combinations())))
@pytest.mark.parametrize("retry", [False, True], ids=["at once", "after a retry"])
@pytest.mark.parametrize("quic", [False, True], ids=["not over QUIC", "over QUIC"])
def test_combinations(
    suite: CipherSuite, group: NamedGroup, key_type: str, client_certificate: str, retry: bool, quic: bool
) -> None:
    request, shown = CLIENT_CERTIFICATES[client_certificate]
    other = NamedGroup.SECP384R1 if group is not NamedGroup.SECP384R1 else NamedGroup.SECP256R1
    duel = Duel.of(
        client={"key_shares": (other if retry else group,)},
        choice={"groups": (group,), "cipher_suites": (suite,)},
        quic=quic,
        request=request,
        client_key=key_type if shown else None,
        server_key=key_type,
    ).run()

    facts: dict[str, Any] = {
        "cipher_suite": suite,
        "group": group,
        "signature_scheme": KEY_TYPES[key_type],
        "alpn": b"h3",
        "server_name": "server.example",
        "exporter": Exporter(suite.hash, b""),  # which is not compared
    }
    client_chain = identity(key_type, "client").chain if shown else ()
    assert duel.client.complete == Complete(**facts, entry="client entry", peer_chain=identity(key_type).chain)
    assert duel.server.complete == Complete(**facts, entry="server entry", peer_chain=client_chain)

    for level in (Level.HANDSHAKE, Level.APP):
        for ours, theirs in (
            (Direction.SEND, Direction.RECEIVE),
            (Direction.RECEIVE, Direction.SEND),
        ):
            assert duel.client.secrets[level, ours] == duel.server.secrets[level, theirs]
    assert len(set(duel.client.secrets.values())) == 4
    assert {len(secret) for secret in duel.client.secrets.values()} == {48 if suite.hash == "sha384" else 32}
    assert {event.cipher_suite for event in duel.client.told(InstallSecret)} == {suite}

    if quic:
        assert duel.client.told(PeerTransportParameters) == [PeerTransportParameters(SERVER_TRANSPORT_PARAMETERS)]
        assert duel.server.told(PeerTransportParameters) == [PeerTransportParameters(CLIENT_TRANSPORT_PARAMETERS)]
    assert duel.client.told(Selected) == [Selected(b"h3", "server.example", "client entry")]
    assert duel.server.told(Selected) == [Selected(b"h3", "server.example", "server entry")]

    assert outline(duel.client.events) == [
        "send INITIAL",
        *["send INITIAL"] * retry,
        "install HANDSHAKE RECEIVE",
        "install HANDSHAKE SEND",
        *["PeerTransportParameters"] * quic,
        "Selected",
        *["Sign"] * shown,
        "send HANDSHAKE",
        "install APP RECEIVE",
        "install APP SEND",
        "Complete",
    ]
    assert outline(duel.server.events) == [
        "Selected",
        *["send INITIAL"] * retry,
        *["PeerTransportParameters"] * quic,
        "send INITIAL",
        "install HANDSHAKE SEND",
        "install HANDSHAKE RECEIVE",
        "Sign",
        "send HANDSHAKE",
        "install APP SEND",
        "install APP RECEIVE",
        "Complete",
    ]


@pytest.mark.parametrize("portion", [1, 3, 1000])
@pytest.mark.parametrize("client_certificate", CLIENT_CERTIFICATES)
@pytest.mark.parametrize("retry", [False, True], ids=["at once", "after a retry"])
def test_bytes_may_come_in_any_portions(portion: int, client_certificate: str, retry: bool) -> None:
    request, shown = CLIENT_CERTIFICATES[client_certificate]
    duel = Duel.of(quic=True, retry=retry, request=request, client_key="p256" if shown else None)
    assert duel.run(portion=portion).is_complete


@pytest.mark.parametrize("client_certificate", CLIENT_CERTIFICATES)
@pytest.mark.parametrize("retry", [False, True], ids=["at once", "after a retry"])
def test_a_flight_may_come_in_one_piece(client_certificate: str, retry: bool) -> None:
    request, shown = CLIENT_CERTIFICATES[client_certificate]
    duel = Duel.of(quic=True, retry=retry, request=request, client_key="p256" if shown else None)
    while duel.wire:
        duel.deliver_flight()
    assert duel.is_complete


def test_the_server_can_send_before_the_client_is_done() -> None:
    """RFC 8446 section 4.4.4: with its own application secret, but it can't receive yet."""
    duel = Duel.of().until(Role.SERVER, HandshakeType.FINISHED)
    assert (Level.APP, Direction.SEND) in duel.server.secrets
    assert (Level.APP, Direction.RECEIVE) not in duel.server.secrets
    assert duel.server.complete is None


def test_secrets_never_show_in_a_repr() -> None:
    duel = Duel.of().run()
    for event in duel.client.told(InstallSecret):
        assert repr(event.secret) not in repr(event)
        assert repr(event).startswith(f"InstallSecret({event.level.name}, {event.direction.name}, TLS_")


def test_the_server_chooses_by_name_and_protocols() -> None:
    asked: list[tuple[str | None, tuple[bytes, ...]]] = []

    def choose(server_name: str | None, alpn: tuple[bytes, ...]) -> ServerChoice:
        asked.append((server_name, alpn))
        return ServerChoice("entry", alpn[1], (identity().certificate,))

    duel = Duel.of(server={"choose": choose}, client={"server_name": "Server.Example"}).run()
    assert asked == [("server.example", (b"h3", b"smb"))]
    assert duel.client.complete is not None
    assert duel.client.complete.alpn == b"smb"


def test_without_name_and_protocols() -> None:
    """A peer that is known by address only, and an application that needs no ALPN."""
    asked: list[tuple[str | None, tuple[bytes, ...]]] = []

    def choose(server_name: str | None, alpn: tuple[bytes, ...]) -> ServerChoice:
        asked.append((server_name, alpn))
        return ServerChoice("entry", None, (identity().certificate,))

    duel = Duel.of(client={"server_name": None, "alpn": ()}, server={"choose": choose}).run()
    assert asked == [(None, ())]
    for party in (duel.client, duel.server):
        assert party.complete is not None
        assert (party.complete.alpn, party.complete.server_name) == (None, None)


def test_a_server_may_ignore_alpn_except_over_quic() -> None:
    """RFC 7301 section 3.2 against RFC 9001 section 8.1."""
    assert Duel.of(choice={"alpn": None}).run().is_complete
    Duel.of(choice={"alpn": None}, quic=True).fails(AlertDescription.NO_APPLICATION_PROTOCOL)


@pytest.mark.parametrize(
    "alert",
    [AlertDescription.UNRECOGNIZED_NAME, AlertDescription.NO_APPLICATION_PROTOCOL, AlertDescription.ACCESS_DENIED],
    ids=lambda alert: alert.label,
)
def test_the_server_refuses_to_choose(alert: AlertDescription) -> None:
    def choose(_server_name: str | None, _alpn: tuple[bytes, ...]) -> ServerChoice:
        raise PeerError(alert, "nobody is at home")

    assert Duel.of(server={"choose": choose}).fails(alert).reason == "nobody is at home"


@pytest.mark.parametrize("alert", [AlertDescription.UNKNOWN_CA, AlertDescription.CERTIFICATE_EXPIRED])
def test_the_chain_does_not_verify(alert: AlertDescription) -> None:
    duel = Duel.of(client={"verify_server": distrust(alert)})
    duel.until(Role.CLIENT, HandshakeType.CERTIFICATE).fails(alert)
    required = ClientCertificate.REQUIRE
    duel = Duel.of(choice={"verify_client": distrust(alert)}, request=required, client_key="p256")
    duel.until(Role.SERVER, HandshakeType.CERTIFICATE).fails(alert)


def test_the_server_shows_the_first_certificate_that_the_client_takes() -> None:
    """RFC 8446 section 4.4.2.2."""
    certificates = tuple(identity(key_type).certificate for key_type in ("rsa", "p384", "p256"))
    schemes = (SignatureScheme.ECDSA_SECP256R1_SHA256, SignatureScheme.ECDSA_SECP384R1_SHA384)
    duel = Duel.of(
        client={"signature_schemes": schemes}, choice={"certificates": certificates}, server_key="p384"
    ).run()
    assert duel.client.complete is not None
    assert duel.client.complete.peer_chain == identity("p384").chain


def test_the_server_has_no_certificate_that_the_client_takes() -> None:
    duel = Duel.of(client={"signature_schemes": (SignatureScheme.ED25519,)})
    duel.fails(AlertDescription.HANDSHAKE_FAILURE)


def test_the_client_shows_nothing_if_the_server_does_not_take_its_key() -> None:
    """RFC 8446 section 4.4.2.3: an empty Certificate, which the server may take."""
    schemes = {"signature_schemes": (SignatureScheme.ED25519,)}
    duel = Duel.of(choice=schemes, request=ClientCertificate.REQUEST, client_key="p256").run()
    assert duel.server.complete is not None
    assert duel.server.complete.peer_chain == ()
    assert not duel.client.told(Sign)
    Duel.of(choice=schemes, request=ClientCertificate.REQUIRE, client_key="p256").fails(
        AlertDescription.CERTIFICATE_REQUIRED
    )


def test_no_cipher_suite_in_common() -> None:
    duel = Duel.of(
        client={"cipher_suites": (CipherSuite.TLS_AES_128_GCM_SHA256,)},
        choice={"cipher_suites": (CipherSuite.TLS_AES_256_GCM_SHA384,)},
    )
    duel.fails(AlertDescription.HANDSHAKE_FAILURE)


def test_no_group_in_common() -> None:
    duel = Duel.of(client={"groups": (NamedGroup.X25519,)}, choice={"groups": (NamedGroup.SECP256R1,)})
    duel.fails(AlertDescription.HANDSHAKE_FAILURE)


def test_the_server_prefers_by_its_own_order_but_avoids_a_retry() -> None:
    """Of the groups with a share it takes its favourite; a favourite without a share is no reason to ask again."""
    shares = {"key_shares": (NamedGroup.SECP256R1, NamedGroup.SECP384R1)}
    order = {"groups": (NamedGroup.X25519, NamedGroup.SECP384R1, NamedGroup.SECP256R1)}
    duel = Duel.of(client=shares, choice=order).run()
    assert duel.client.complete is not None
    assert duel.client.complete.group is NamedGroup.SECP384R1
    assert len(duel.client.told(SendMessage)) == 2


def test_a_client_certificate_needs_somebody_to_verify_it() -> None:
    with pytest.raises(ValueError, match="verify_client"):
        ServerChoice("entry", None, (identity().certificate,), ClientCertificate.REQUEST)
    choice = ServerChoice("entry", None, (identity().certificate,), ClientCertificate.REQUEST, trust)
    assert replace(choice, client_certificate=ClientCertificate.NONE, verify_client=None).verify_client is None


def test_a_signature_nobody_asked_for() -> None:
    duel = Duel.of()
    with pytest.raises(ValueError, match="no answer is wanted"):
        duel.server.engine.answer(b"signature")
