"""The log's line for a handshake: how it looks, and that nobody's words in it can pass for ours."""

from __future__ import annotations

from errno import EACCES

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from quic_tlshd.monitor.report import describe
from quic_tlshd.request import AuthMode, HandshakeOutcome, HandshakeRequest, Role

REQUEST = HandshakeRequest(id=1, role=Role.SERVER, auth_mode=AuthMode.X509, deadline=5, peer="pid 7 uid 0")
DONE = HandshakeOutcome(
    status=0,
    peer="192.0.2.1 port 4711",
    alpn=b"h3",
    server_name="a.example",
    entry="h3",
    cipher_suite="TLS_AES_128_GCM_SHA256",
    group="X25519",
    elapsed=0.0015,
)
FAILED = replace(DONE, status=EACCES, alpn=None, alpn_offered=(b"h3", b"smb"), alert=42, reason="why")


def test_usual_lines() -> None:
    assert describe(REQUEST, DONE) == (
        "handshake as server with 192.0.2.1 port 4711 done: entry h3, ALPN h3, server name a.example, "
        "TLS_AES_128_GCM_SHA256, X25519, no peer certificate, 1.5 ms"
    )
    assert describe(REQUEST, FAILED) == (
        "handshake as server with 192.0.2.1 port 4711 failed: entry h3, ALPN offered h3, smb, server name a.example, "
        "alert bad_certificate sent, EACCES: why"
    )
    assert "X25519, session resumed, early data, no peer" in describe(
        REQUEST, replace(DONE, resumed=True, early_data=True)
    )
    client = replace(REQUEST, role=Role.CLIENT, peername="2001:db8::1")
    assert describe(client, replace(DONE, peer="")).startswith(
        "handshake as client with 2001:db8::1 (pid 7 uid 0) done: "
    )


def test_psk() -> None:
    """Both sides are who knows the key, and no certificate was wanted."""
    assert describe(REQUEST, replace(DONE, psk_identity=b"NVMe1R01 host subsystem")).endswith(
        ", X25519, PSK 'NVMe1R01 host subsystem', 1.5 ms"
    )
    assert ", PSK 'a, b\\x00', " in describe(REQUEST, replace(DONE, psk_identity=b"a, b\0"))


@pytest.mark.parametrize("peer", ["2001:db8::1 port 1", "fe80::1%eth0 port 443", "192.0.2.1", "fe80::1%eth0", "host"])
def test_addresses_are_plain(peer: str) -> None:
    assert f" with {peer} done: " in describe(REQUEST, replace(DONE, peer=peer))


FORGED = "192.0.2.1 port 4711 done: entry smb, ALPN smb #"


@pytest.mark.parametrize("peer", [FORGED, "fe80::1%x, y", "fe80::1%x, y port 1", "1:2, port 1", "a test", "a\nb"])
def test_a_peers_address_can_not_pretend_facts(peer: str) -> None:
    assert f" with {peer!r} done: " in describe(REQUEST, replace(DONE, peer=peer))


def test_alpn_and_names_can_not_pretend_facts() -> None:
    forged = "h3, server name bank.example"
    for outcome in (
        replace(DONE, alpn=forged.encode()),
        replace(FAILED, alpn_offered=(forged.encode(),)),
        replace(DONE, server_name=forged),
        replace(DONE, entry=forged),
        replace(DONE, group=forged),
    ):
        line = describe(REQUEST, outcome)
        assert f"'{forged}'" in line
        assert line.count(forged) == 1
    line = describe(replace(REQUEST, role=Role.CLIENT, peername="a,b:c"), DONE)
    assert " with 'a,b:c' (192.0.2.1 port 4711) done: " in line


@given(st.lists(st.binary(min_size=1, max_size=255), min_size=1, max_size=200), st.text(max_size=3000))
def test_a_line_is_bounded(alpn: list[bytes], text: str) -> None:
    outcome = replace(FAILED, alpn_offered=tuple(alpn), server_name=text, peer=text, reason=text)
    assert len(describe(REQUEST, outcome)) < 2000


def test_many_protocols_are_counted() -> None:
    line = describe(REQUEST, replace(FAILED, alpn_offered=tuple(b"p%d" % number for number in range(20))))
    assert "ALPN offered p0, p1, p2, p3, p4, p5, p6, p7 and 12 more, " in line
