"""Foreign text, shown: bounded, printable, and never to be taken for ours."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quic_tlshd.policy.text import MAXIMUM_SHOWN, alpn_text, quoted, shown


@pytest.mark.parametrize("name", ["a.example", "*.a.example", "http/1.1", "h3-29", "10.0.0.1", "fe80::1%eth0", "::"])
def test_plain(name: str) -> None:
    assert shown(name) == name


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("", "''"),
        ("a, b", "'a, b'"),
        ("a:b", "'a:b'"),
        ("a'b", '"a\'b"'),
        ("fe80::1%a, b", "'fe80::1%a, b'"),
        ("\x1b\n", r"'\x1b\n'"),
        ("ä", "'ä'"),
        ("h3\n", r"'h3\n'"),
    ],
)
def test_quoted(name: str, text: str) -> None:
    assert shown(name) == text


@given(st.text(max_size=400) | st.text("\x01\U000e0001'\"", min_size=90, max_size=400))
def test_quoted_is_bounded_and_printable(text: str) -> None:
    got = quoted(text)
    assert got.isprintable()
    assert len(got) <= MAXIMUM_SHOWN + 2
    assert got[0] == got[-1]
    assert "…" in text or ("…" in got) == (len(repr(text)) > MAXIMUM_SHOWN + 2)


@given(st.lists(st.binary(min_size=1, max_size=255), max_size=300))
def test_alpn_is_bounded_and_printable(names: list[bytes]) -> None:
    got = alpn_text(tuple(names))
    assert got.isprintable()
    assert len(got) < 8 * 70


def test_alpn() -> None:
    assert alpn_text((b"h3", b"http/1.1", b"h3, x", b"\x0a\x0a")) == r"h3, http/1.1, 'h3, x', '\n\n'"
    assert alpn_text((b"x" * 255,)) == "x" * 63 + "…"
    assert alpn_text((b"p",) * 9) == "p, p, p, p, p, p, p, p and 1 more"
