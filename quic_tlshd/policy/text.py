"""Foreign text in our own lines: bounded, and quoted unless it can't be taken for anything else.

Names come from peers, transports and callers. A comma, a colon or a space in one must not look like a further fact.
"""

from __future__ import annotations

import re
from ipaddress import ip_address

MAXIMUM_SHOWN = 100  # characters of one name
MAXIMUM_REASON = 500  # characters
SHOWN_ALPN = 8  # names of a list
_ALPN_CHARACTERS = 64  # of one ALPN name
_PLAIN = re.compile(r"[A-Za-z0-9._*/-]+", re.ASCII)
_ADDRESS = re.compile(r"[0-9A-Fa-f.:]+(?:%[A-Za-z0-9._-]+)?", re.ASCII)
_TRANSPORT_ADDRESS = re.compile(r"(\S+) port [0-9]{1,5}", re.ASCII)


def is_address(name: str) -> bool:
    """Whether the name is a numeric IP address; an IPv6 one may have a zone."""
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def cut(text: str, limit: int) -> str:
    """The text, or its first characters and `…` if it is longer than `limit`."""
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def quoted(text: str, limit: int = MAXIMUM_SHOWN) -> str:
    """The text as Python quotes it, what isn't printable escaped; between the quotes `limit` characters at most."""
    # Cut twice: escapes are up to ten times as long as what they stand for.
    return _cut_quoted(repr(text[: limit + 1]), limit)


def shown(name: str, limit: int = MAXIMUM_SHOWN) -> str:
    """A host name, protocol name or numeric address as it is; everything else quoted."""
    if _PLAIN.fullmatch(name) or (_ADDRESS.fullmatch(name) and is_address(name)):
        return cut(name, limit)
    return quoted(name, limit)


def shown_peer(peer: str) -> str:
    """Whom a transport names: an address, alone or as ``192.0.2.1 port 4711``, as it is; everything else quoted."""
    match = _TRANSPORT_ADDRESS.fullmatch(peer)
    return peer if match and _ADDRESS.fullmatch(match[1]) and is_address(match[1]) else shown(peer)


def alpn_text(alpn: tuple[bytes, ...]) -> str:
    """ALPN names for people: the first ones, and how many more there are."""
    names = [_alpn_name(name) for name in alpn[:SHOWN_ALPN]]
    return ", ".join(names) + (f" and {len(alpn) - SHOWN_ALPN} more" if len(alpn) > SHOWN_ALPN else "")


def _alpn_name(name: bytes) -> str:
    text = name.decode("latin-1")
    if _PLAIN.fullmatch(text):
        return cut(text, _ALPN_CHARACTERS)
    return _cut_quoted(repr(name)[1:], _ALPN_CHARACTERS)


def _cut_quoted(literal: str, limit: int) -> str:
    return literal if len(literal) <= limit + 2 else f"{literal[:limit]}…{literal[0]}"
