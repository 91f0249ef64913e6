"""Which registry entry a handshake uses: pure functions, called by the monitor (candidates) and the worker (choice).

The most specific entry wins: an exact server name before a wildcard before the default, then one that names ALPNs
before one for any.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address

from quic_tlshd.policy.registry import Entry, Registry
from quic_tlshd.policy.text import alpn_text, quoted, shown
from quic_tlshd.request import Role
from quic_tlshd.tls.alert import AlertDescription, PeerError

EXACT, WILDCARD, DEFAULT = range(3)
_MAXIMUM_NAME = 255


def canonical_name(name: str) -> str:
    """The one spelling of a server's name that entries and requests are compared by, and that is verified and sent.

    Lower case without a dot at the end, a numeric address as `ipaddress` writes it. ValueError for what can be neither:
    nothing, more than 255 characters, or any but printable ASCII without spaces.
    """
    if not (name.isascii() and name.isprintable()) or " " in name or len(name) > _MAXIMUM_NAME:
        raise ValueError(f"{quoted(name)} can be no server's name")
    name = name.lower().removesuffix(".")
    if not name:
        raise ValueError("the server's name is empty")
    try:
        return str(ip_address(name))
    except ValueError:
        return name


def candidates(
    registry: Registry, role: Role, alpn: tuple[bytes, ...] | None, peername: str | None
) -> tuple[Entry, ...]:
    """The entries that a request may use, and no others will sign for it.

    alpn: a client's offer, where no ALPN leaves only entries for any; a server transport's list, empty for any; None
    where only the transport knows the list, so that no entry can be ruled out by it yet.
    peername: whom a client will verify, canonical; a server learns the name only from the ClientHello.
    """
    if role is Role.SERVER:
        return tuple(
            entry
            for entry in registry.entries
            if entry.role is role and (not alpn or not entry.alpn or _overlap(entry.alpn, alpn))
        )
    return tuple(
        entry
        for entry in registry.entries
        if entry.role is role
        and (alpn is None or not entry.alpn or _overlap(entry.alpn, alpn))
        and name_rank(entry, peername) is not None
    )


def choose_server(
    entries: Iterable[Entry], server_name: str | None, offered: tuple[bytes, ...], allowed: tuple[bytes, ...]
) -> tuple[Entry, bytes | None]:
    """The entry for a ClientHello and the ALPN to select, None to answer without one.

    offered: the client's ALPN list, empty if it sent none. allowed: the transport's own list, empty for any. Equally
    specific entries are ordered by the preference of the transport, or the client's where the transport has none.
    PeerError(no_application_protocol) if no ALPN fits; if one does and no server name, the entry's mismatch_alert, or
    missing_extension for a client that named no server (RFC 8446 section 9.2).
    """
    entries = tuple(entries)
    fitting = [(entry, alpn) for entry in entries for fits, alpn in (_select(entry, offered, allowed),) if fits]
    if not fitting:
        raise PeerError(AlertDescription.NO_APPLICATION_PROTOCOL, _no_alpn(entries, offered, allowed))
    preference = allowed or offered

    def specificity(choice: tuple[Entry, bytes | None]) -> tuple[bool, int]:
        entry, alpn = choice
        return not entry.alpn, preference.index(alpn) if alpn is not None else len(preference)

    ranked = [
        ((rank, *specificity(choice)), choice)
        for choice in fitting
        if (rank := name_rank(choice[0], server_name)) is not None
    ]
    if ranked:
        return min(ranked, key=lambda item: item[0])[1]
    entry, _ = min(fitting, key=specificity)
    what = f"ALPN {alpn_text(offered)}" if offered else "handshakes without ALPN"
    if server_name is None:
        alert = entry.mismatch_alert
        if alert is AlertDescription.UNRECOGNIZED_NAME:
            alert = AlertDescription.MISSING_EXTENSION
        raise PeerError(alert, f"the client names no server and there is no default for {what}")
    raise PeerError(entry.mismatch_alert, f"no entry serves the name {quoted(server_name)} for {what}")


def choose_client(entries: Iterable[Entry], alpn: tuple[bytes, ...], peername: str | None) -> Entry:
    """The entry for a client's handshake; equally specific ones in the order of its offer. LookupError if none fits."""
    ranked = []
    for entry in entries:
        rank = name_rank(entry, peername)
        common = [index for index, name in enumerate(alpn) if name in entry.alpn]
        if rank is not None and (common or not entry.alpn):
            ranked.append(((rank, not entry.alpn, common[0] if common else len(alpn)), entry))
    if not ranked:
        raise LookupError(f"no client entry is for {'a peer without a name' if peername is None else shown(peername)}")
    return min(ranked, key=lambda item: item[0])[1]


def name_rank(entry: Entry, name: str | None) -> int | None:
    """How specifically the entry is for that server name: EXACT, WILDCARD, DEFAULT, or None if it isn't.

    `*` stands for the whole left-most label and nothing more (RFC 9525 section 6.3).
    """
    if not entry.server_name:
        return DEFAULT
    if name is None:
        return None
    name = name.lower()
    if name in entry.server_name:
        return EXACT
    label, dot, rest = name.partition(".")
    return WILDCARD if label and dot and f"*.{rest}" in entry.server_name else None


def _select(entry: Entry, offered: tuple[bytes, ...], allowed: tuple[bytes, ...]) -> tuple[bool, bytes | None]:
    """Whether the entry fits the offer, and what it would select."""
    if not offered:
        return not entry.alpn, None
    if not entry.alpn and not allowed:
        # We know of no protocol here, so none can be refused or promised.
        return True, None
    served = entry.alpn if not allowed else tuple(name for name in allowed if not entry.alpn or name in entry.alpn)
    selected = next((name for name in served if name in offered), None)
    return selected is not None, selected


def _overlap(one: tuple[bytes, ...], other: tuple[bytes, ...]) -> bool:
    return not set(one).isdisjoint(other)


def _no_alpn(entries: tuple[Entry, ...], offered: tuple[bytes, ...], allowed: tuple[bytes, ...]) -> str:
    if not entries:
        return "there is no entry for this request"
    served = tuple(dict.fromkeys(name for entry in entries for name in entry.alpn))
    if allowed:
        served = tuple(name for name in allowed if not served or name in served) or allowed
    if not offered:
        return f"the client offers no ALPN, and every entry is for one ({alpn_text(served)})"
    return f"the client offers ALPN {alpn_text(offered)}, served is {alpn_text(served)}"
