"""Which key shares a client sends at once, so that servers need not ask again (RFC 8446 section 4.1.4)."""

from __future__ import annotations

from collections import OrderedDict

from quic_tlshd.tls.iana import NamedGroup
from quic_tlshd.tls.key_exchange import HYBRIDS

REMEMBERED = 1024  # servers


class KeyShares:
    """A share of our first group, for whoever can use it, and one of the group that the server chose the last time.

    Of a server that we don't know, the first group that is no hybrid is expected: many servers have none.
    """

    def __init__(self) -> None:
        self._chosen: OrderedDict[tuple[str, str | None], NamedGroup] = OrderedDict()

    def predict(
        self, entry: str, server: str | None, groups: tuple[NamedGroup, ...], *, small: bool = False
    ) -> tuple[NamedGroup, ...]:
        """In the order of `groups`, as section 4.2.8 demands. small: no hybrid's share, which would fill a packet; a
        server that wants one has to ask for it, and if there are no others we let it choose."""
        if small:
            groups = tuple([group for group in groups if group not in HYBRIDS])
            if not groups:
                return ()
        expected = self._chosen.get((entry, server))
        if expected not in groups:
            expected = next((group for group in groups if group not in HYBRIDS), groups[0])
        return tuple(dict.fromkeys((groups[0], expected)))

    def remember(self, entry: str, server: str | None, group: NamedGroup) -> None:
        """The server chose that group."""
        self._chosen[entry, server] = group
        self._chosen.move_to_end((entry, server))
        if len(self._chosen) > REMEMBERED:
            self._chosen.popitem(last=False)
