"""Sessions as bytes, and the keys that seal them into tickets."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quic_tlshd.tls.iana import CipherSuite
from quic_tlshd.tls.ticket import MAX_LIFETIME, Session, TicketKey, TicketKeys

SESSION = Session(
    CipherSuite.TLS_AES_256_GCM_SHA384,
    b"k" * 48,
    1_500_000_000_000,
    7200,
    0xFFFFFFF0,
    1_499_999_000_000,
    b"h3",
    "server.example",
    (b"end certificate", b"issuer"),
    1024,
    b"limits",
    b"the ticket",
    b"c" * 32,
)
NOW = 1_500_000_000.0
HOUR, DAY = 3600, 86400


def test_a_session_comes_back_as_it_was() -> None:
    assert Session.decode(SESSION.encode()) == SESSION
    bare = replace(SESSION, alpn=None, server_name=None, peer_chain=(), transport_parameters=b"", identity=b"")
    assert Session.decode(bare.encode()) == bare


def test_what_is_cut_or_of_another_version_is_no_session() -> None:
    data = SESSION.encode()
    whole = len(replace(SESSION, peer_chain=()).encode())
    ends = {whole, whole + 3 + len(b"end certificate")}  # where a shorter chain ends
    for end in range(len(data)):
        assert (Session.decode(data[:end]) is None) == (end not in ends)
    assert Session.decode(b"\x02" + data[1:]) is None


def test_any_changed_byte_gives_a_session_or_none() -> None:
    data = SESSION.encode()
    for at in range(len(data)):
        for bit in range(8):
            Session.decode(data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :])


@given(st.binary(max_size=200))
def test_any_bytes_give_a_session_or_none(data: bytes) -> None:
    Session.decode(data)
    Session.decode(b"\x01\x13\x01" + data)


def test_how_long_a_session_lives() -> None:
    assert SESSION.is_alive(NOW)
    assert SESSION.is_alive(NOW + 7199.9)
    assert not SESSION.is_alive(NOW + 7200)
    assert not SESSION.is_alive(NOW - 1)  # the clock was set back


def test_renewals_do_not_keep_a_session_alive_for_ever() -> None:
    old = replace(SESSION, authenticated=SESSION.created - (MAX_LIFETIME - 60) * 1000)
    assert old.is_alive(NOW + 59)
    assert not old.is_alive(NOW + 60)


def test_the_obfuscated_age() -> None:
    """RFC 8446 section 4.2.11.1: milliseconds, plus ticket_age_add, modulo 2^32."""
    assert SESSION.obfuscated_age(NOW) == 0xFFFFFFF0
    assert SESSION.obfuscated_age(NOW + 0.016) == 0
    assert SESSION.skew(SESSION.obfuscated_age(NOW + 5), NOW + 5) == 0
    assert SESSION.skew(SESSION.obfuscated_age(NOW + 5), NOW + 7) == 2
    assert SESSION.skew(SESSION.obfuscated_age(NOW + 7), NOW + 5) == 2


def test_no_secret_shows() -> None:
    shown = repr(SESSION)
    assert "kkkk" not in shown
    assert "the ticket" not in shown


def test_a_ticket_opens_for_its_entry_and_with_its_key_only() -> None:
    key = TicketKey(b"s" * 64)
    ticket = key.seal(b"state", "smb")
    assert key.open(ticket, "smb") == b"state"
    assert TicketKey(b"s" * 64).open(ticket, "smb") == b"state"  # another server that has the secret
    assert key.open(ticket, "h3") is None
    assert TicketKey(b"S" * 64).open(ticket, "smb") is None
    assert key.seal(b"state", "smb") != ticket


def test_no_changed_ticket_opens() -> None:
    key = TicketKey(b"s" * 64)
    ticket = key.seal(b"state", "smb")
    for at in range(len(ticket)):
        assert key.open(ticket[:at], "smb") is None
        assert key.open(ticket[:at] + bytes([ticket[at] ^ 1]) + ticket[at + 1 :], "smb") is None
    assert key.open(ticket + b"\0", "smb") is None


def test_keys_follow_one_another() -> None:
    keys = TicketKeys(DAY)
    first = keys.seal(b"first", "", 0)
    assert keys.seal(b"same day", "", DAY - 1)[:8] == first[:8]
    second = keys.seal(b"second", "", DAY)
    assert second[:8] != first[:8]
    assert keys.open(first, "", DAY) == b"first"
    assert keys.open(second, "", DAY) == b"second"


@pytest.mark.parametrize("issued", [0, DAY - 1])
def test_a_key_opens_what_it_sealed_for_as_long_as_a_ticket_lives(issued: float) -> None:
    keys = TicketKeys(DAY)
    keys.seal(b"makes the key", "", 0)
    ticket = keys.seal(b"state", "", issued)
    assert keys.open(ticket, "", issued + MAX_LIFETIME - 1) == b"state"
    assert keys.open(ticket, "", DAY + MAX_LIFETIME) is None


def test_there_are_never_more_keys_than_may_be_needed() -> None:
    made: list[bytes] = []

    def generate(length: int) -> bytes:
        made.append(len(made).to_bytes(length, "big"))
        return made[-1]

    keys = TicketKeys(DAY, generate)
    tickets = [keys.seal(b"", "", day * DAY) for day in range(30)]
    assert len(made) == 30
    assert [keys.open(ticket, "", 29 * DAY) is not None for ticket in tickets] == [False] * 22 + [True] * 8


def test_keys_that_have_sealed_nothing_open_nothing() -> None:
    assert TicketKeys(DAY).open(b"x" * 100, "", 0) is None
