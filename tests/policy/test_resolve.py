"""Selection: which entry a ClientHello or a client's request gets, as tables."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quic_tlshd.policy.registry import Entry, Registry
from quic_tlshd.policy.resolve import candidates, canonical_name, choose_client, choose_server
from quic_tlshd.request import Role
from quic_tlshd.tls.alert import AlertDescription as A
from quic_tlshd.tls.alert import PeerError


def entry(
    name: str, alpn: str = "", names: str = "", *, role: Role = Role.SERVER, alert: A = A.UNRECOGNIZED_NAME
) -> Entry:
    return Entry(
        name=name,
        role=role,
        source="test:1",
        alpn=tuple(alpn.encode().split()),
        server_name=tuple(names.split()),
        mismatch_alert=alert,
    )


ENTRIES = (
    entry("any"),
    entry("h3-default", "h3 h3-29"),
    entry("h3-exact", "h3", "www.example.org"),
    entry("h3-wild", "h3", "*.example.org"),
    entry("any-exact", "", "www.example.org"),
    entry("smb-exact", "smb", "www.example.org files.example.org"),
    entry("smb-wild", "smb", "*.example.org"),
)


@pytest.mark.parametrize(
    ("name", "offered", "allowed", "chosen", "selected"),
    [
        ("www.example.org", "h3", "", "h3-exact", "h3"),
        ("WWW.example.org", "h3", "", "h3-exact", "h3"),
        ("a.example.org", "h3", "", "h3-wild", "h3"),
        ("a.b.example.org", "h3", "", "h3-default", "h3"),
        ("example.org", "h3", "", "h3-default", "h3"),
        (None, "h3", "", "h3-default", "h3"),
        (None, "h3 h3-29", "h3-29 h3", "h3-default", "h3-29"),
        (None, "h3-29 h3", "", "h3-default", "h3"),
        ("www.example.org", "smb", "", "smb-exact", "smb"),
        ("www.example.org", "smb h3", "", "smb-exact", "smb"),
        ("www.example.org", "h3 smb", "", "h3-exact", "h3"),
        ("www.example.org", "h3 smb", "smb h3", "smb-exact", "smb"),
        ("a.example.org", "h3 smb", "smb", "smb-wild", "smb"),
        ("www.example.org", "doq", "", "any-exact", None),
        ("www.example.org", "doq", "h3 doq", "any-exact", "doq"),
        ("b.example", "doq", "", "any", None),
        ("b.example", "smb", "", "any", None),
        ("b.example", "smb", "smb", "any", "smb"),
        ("www.example.org", "h3-29", "h3-29", "any-exact", "h3-29"),  # the name counts before the ALPN
        ("www.example.org", "", "", "any-exact", None),
        ("b.example", "", "h3", "any", None),
        (None, "", "", "any", None),
    ],
)
def test_server(name: str | None, offered: str, allowed: str, chosen: str, selected: str | None) -> None:
    for entries in (ENTRIES, ENTRIES[::-1]):
        got, alpn = choose_server(entries, name, tuple(offered.encode().split()), tuple(allowed.encode().split()))
        assert got.name == chosen
        assert alpn == (None if selected is None else selected.encode())


NAMED = (
    entry("h3", "h3", "www.example.org"),
    entry("smb", "smb", "files.example.org", alert=A.NO_APPLICATION_PROTOCOL),
    entry("any", "", "plain.example.org"),
)


@pytest.mark.parametrize(
    ("entries", "name", "offered", "allowed", "alert", "words"),
    [
        (NAMED[:2], "www.example.org", "doq", "", A.NO_APPLICATION_PROTOCOL, "offers ALPN doq, served is h3, smb"),
        (NAMED, "www.example.org", "doq", "h3", A.NO_APPLICATION_PROTOCOL, "offers ALPN doq, served is h3"),
        (NAMED[:2], "www.example.org", "", "", A.NO_APPLICATION_PROTOCOL, "offers no ALPN"),
        (NAMED[:2], "b.example", "h3", "", A.UNRECOGNIZED_NAME, "'b.example' for ALPN h3"),
        (NAMED[:2], "b.example", "smb", "", A.NO_APPLICATION_PROTOCOL, "'b.example' for ALPN smb"),
        (NAMED[:2], "b.example", "smb h3", "h3 smb", A.UNRECOGNIZED_NAME, "'b.example'"),
        (NAMED, "b.example", "", "", A.UNRECOGNIZED_NAME, "handshakes without ALPN"),
        (NAMED[:1], None, "h3", "", A.MISSING_EXTENSION, "names no server"),
        (NAMED[1:2], None, "smb", "", A.NO_APPLICATION_PROTOCOL, "names no server"),
        ((), "b.example", "h3", "", A.NO_APPLICATION_PROTOCOL, "no entry"),
    ],
)
def test_server_refuses(
    entries: tuple[Entry, ...], name: str | None, offered: str, allowed: str, alert: A, words: str
) -> None:
    with pytest.raises(PeerError) as caught:
        choose_server(entries, name, tuple(offered.encode().split()), tuple(allowed.encode().split()))
    assert caught.value.alert is alert
    assert words in caught.value.reason


def test_reason_escapes_what_the_peer_sent() -> None:
    with pytest.raises(PeerError) as caught:
        choose_server(NAMED[:1], "a\x1b[2J", (b"\x1b[31m\n",), ())
    assert caught.value.reason.isprintable()
    with pytest.raises(PeerError) as caught:
        choose_server(NAMED[:1], "a\x1b[2J", (b"h3",), ())
    assert caught.value.reason.isprintable()


def test_reason_is_short_whatever_the_peer_sent() -> None:
    with pytest.raises(PeerError) as caught:
        choose_server(NAMED[:1], None, tuple(bytes([1]) * 250 + bytes([number]) for number in range(120)), ())
    assert len(caught.value.reason) < 700
    assert "and 112 more" in caught.value.reason
    with pytest.raises(PeerError) as caught:
        choose_server(NAMED[:1], "a" * 60000, (b"h3",), ())
    assert len(caught.value.reason) < 200


def test_alpn_in_a_reason_can_not_pretend_to_be_more() -> None:
    with pytest.raises(PeerError) as caught:
        choose_server(NAMED[:1], None, (b"h3x, served is h3x: fine",), ())
    assert caught.value.reason == "the client offers ALPN 'h3x, served is h3x: fine', served is h3"


CLIENTS = (
    entry("c-any", role=Role.CLIENT),
    entry("c-smb", "smb", role=Role.CLIENT),
    entry("c-h3", "h3 h3-29", role=Role.CLIENT),
    entry("c-named", "", "www.example.org", role=Role.CLIENT),
    entry("c-smb-wild", "smb", "*.example.org", role=Role.CLIENT),
)


@pytest.mark.parametrize(
    ("alpn", "peername", "usable", "chosen"),
    [
        ("", None, "c-any", "c-any"),
        ("", "www.example.org", "c-any c-named", "c-named"),
        ("smb", "www.example.org", "c-any c-smb c-named c-smb-wild", "c-named"),
        ("smb", "a.example.org", "c-any c-smb c-smb-wild", "c-smb-wild"),
        ("smb", "10.0.0.1", "c-any c-smb", "c-smb"),
        ("h3 smb", None, "c-any c-smb c-h3", "c-h3"),
        ("smb h3", None, "c-any c-smb c-h3", "c-smb"),
        ("doq", None, "c-any", "c-any"),
    ],
)
def test_client(alpn: str, peername: str | None, usable: str, chosen: str) -> None:
    offered = tuple(alpn.encode().split())
    found = candidates(Registry((*ENTRIES, *CLIENTS)), Role.CLIENT, offered, peername)
    assert [candidate.name for candidate in found] == usable.split()
    assert choose_client(found, offered, peername).name == chosen
    assert choose_client(CLIENTS, offered, peername).name == chosen


def test_candidates_of_a_client_whose_alpn_only_the_transport_knows() -> None:
    found = candidates(Registry((*ENTRIES, *CLIENTS)), Role.CLIENT, None, "a.example.org")
    assert [candidate.name for candidate in found] == ["c-any", "c-smb", "c-h3", "c-smb-wild"]
    assert choose_client(found, (b"h3",), "a.example.org").name == "c-h3"
    assert choose_client(found, (), "a.example.org").name == "c-any"


@pytest.mark.parametrize(
    ("name", "canonical"),
    [("A.Example.", "a.example"), ("192.0.2.1", "192.0.2.1"), ("FE80:0::1%eth0", "fe80::1%eth0"), ("a_b", "a_b")],
)
def test_canonical_name(name: str, canonical: str) -> None:
    assert canonical_name(name) == canonical_name(canonical) == canonical


@pytest.mark.parametrize("name", ["", ".", " ", "a b", "a\0", "ä", "a" * 256])
def test_no_canonical_name(name: str) -> None:
    with pytest.raises(ValueError, match="name"):
        canonical_name(name)


def test_no_client_entry() -> None:
    with pytest.raises(LookupError):
        choose_client(CLIENTS[1:], (), None)


@pytest.mark.parametrize(
    ("alpn", "usable"),
    [
        ("", "any h3-default h3-exact h3-wild any-exact smb-exact smb-wild"),
        ("smb", "any any-exact smb-exact smb-wild"),
        ("doq", "any any-exact"),
    ],
)
def test_server_candidates(alpn: str, usable: str) -> None:
    found = candidates(Registry((*ENTRIES, *CLIENTS)), Role.SERVER, tuple(alpn.encode().split()), "ignored.example")
    assert [candidate.name for candidate in found] == usable.split()


PROTOCOLS = st.lists(st.sampled_from([b"h3", b"h3-29", b"smb", b"doq"]), unique=True, max_size=4).map(tuple)
NAMES = st.none() | st.sampled_from(["www.example.org", "files.example.org", "a.example.org", "b.example"])


@given(NAMES, PROTOCOLS, PROTOCOLS, st.sets(st.sampled_from(ENTRIES)))
def test_choice_is_offered_allowed_and_a_candidate(
    name: str | None, offered: tuple[bytes, ...], allowed: tuple[bytes, ...], entries: set[Entry]
) -> None:
    registry = Registry(tuple(entries))
    try:
        chosen, alpn = choose_server(registry.entries, name, offered, allowed)
    except PeerError:
        return
    assert chosen in candidates(registry, Role.SERVER, allowed, None)
    if alpn is not None:
        assert alpn in offered
        assert not allowed or alpn in allowed
        assert not chosen.alpn or alpn in chosen.alpn
