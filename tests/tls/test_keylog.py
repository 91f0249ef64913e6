"""The key log (RFC 9850): what each side writes, and that it is the same on both."""

from __future__ import annotations

from typing import Any

import pytest

from quic_tlshd.tls.alert import AlertDescription
from quic_tlshd.tls.iana import HandshakeType as H
from quic_tlshd.tls.messages import ClientHello
from quic_tlshd.tls.parameters import Direction, Level, Psk, PskKeyExchangeMode
from tests.tls.playbook import Duel, Role
from tests.tls.resuming import EARLY, duel

ALWAYS = [
    "CLIENT_HANDSHAKE_TRAFFIC_SECRET",
    "CLIENT_TRAFFIC_SECRET_0",
    "EXPORTER_SECRET",
    "SERVER_HANDSHAKE_TRAFFIC_SECRET",
    "SERVER_TRAFFIC_SECRET_0",
]
PSK = Psk(b"identity", bytes(32))
HANDSHAKES: dict[str, dict[str, Any]] = {
    "over QUIC": {"quic": True},
    "over records": {},
    "after a retry": {"retry": True},
    "with a PSK": {"client": {"psks": (PSK,)}, "server": {"find_psk": True}, "server_psks": (PSK,)},
    "with a PSK alone": {
        "client": {"psks": (PSK,), "psk_modes": (PskKeyExchangeMode.PSK_KE,)},
        "server": {"find_psk": True},
        "server_psks": (PSK,),
    },
}


def logs() -> dict[Role, list[str]]:
    return {role: [] for role in Role}


@pytest.mark.parametrize("what", HANDSHAKES)
def test_every_secret_of_a_handshake(what: str) -> None:
    lines = logs()
    started = Duel.of(**HANDSHAKES[what], key_logs=lines)
    client_random = ClientHello.decode(started.next.message).random.hex()
    done = started.run()
    assert sorted(lines[Role.CLIENT]) == sorted(lines[Role.SERVER])
    assert all(line.endswith("\n") for line in lines[Role.CLIENT])
    entries = [line.split() for line in sorted(lines[Role.CLIENT])]
    assert [label for label, _, _ in entries] == ALWAYS
    assert {random for _, random, _ in entries} == {client_random}
    client, server = done.client.secrets, done.server.secrets
    assert done.client.complete is not None
    assert [bytes.fromhex(secret) for _, _, secret in entries] == [
        client[Level.HANDSHAKE, Direction.SEND],
        client[Level.APP, Direction.SEND],
        done.client.complete.exporter.exporter_master_secret,
        server[Level.HANDSHAKE, Direction.SEND],
        server[Level.APP, Direction.SEND],
    ]


def test_early_data_has_a_secret_too() -> None:
    session = duel(**EARLY).run().client.sessions[0]
    lines = logs()
    done = duel(session, **EARLY, key_logs=lines).run()
    assert done.is_complete
    assert sorted(lines[Role.CLIENT]) == sorted(lines[Role.SERVER])
    assert lines[Role.CLIENT][0].split()[0] == "CLIENT_EARLY_TRAFFIC_SECRET"
    assert lines[Role.CLIENT][0].split()[2] == done.client.secrets[Level.EARLY, Direction.SEND].hex()


def test_what_is_written_is_written_before_it_is_used() -> None:
    """Whoever reads along can decrypt what comes next."""
    lines = logs()
    started = Duel.of(key_logs=lines).until(Role.CLIENT, H.ENCRYPTED_EXTENSIONS)
    assert [len(lines[role]) for role in (Role.CLIENT, Role.SERVER)] == [2, 3]
    assert started.run().is_complete


def test_a_client_hello_that_is_none_is_refused_as_ever() -> None:
    lines = logs()
    Duel.of(key_logs=lines).refuses(b"\1\0\0\0", AlertDescription.DECODE_ERROR)
    assert lines == logs()
