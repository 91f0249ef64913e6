"""Which key shares a client sends at once, so that servers need not ask again (RFC 8446 section 4.1.4)."""

from __future__ import annotations

from collections import OrderedDict

from quic_tlshd.tls.iana import NamedGroup
from quic_tlshd.tls.key_exchange import HYBRIDS

REMEMBERED = 1024  # servers


class KeyShares:
    """Shares of our first group and, if that is a hybrid, which many servers lack, of the first that is none; of the
    group that the server chose the last time too. Never less: there are servers that can't ask for another share.
    """

    def __init__(self) -> None:
        self._chosen: OrderedDict[tuple[str, str | None], NamedGroup] = OrderedDict()

    def predict(
        self, entry: str, server: str | None, groups: tuple[NamedGroup, ...], *, small: bool = False
    ) -> tuple[NamedGroup, ...]:
        """In the order of `groups`, as section 4.2.8 demands. small: no hybrid's share, which would fill a packet; a
        server that wants one has to ask for it, and if there are no others we let it choose."""
        usable = [group for group in groups if not (small and group in HYBRIDS)]
        classic = next((group for group in usable if group not in HYBRIDS), None)
        wanted = {*usable[:1], classic, self._chosen.get((entry, server))}
        return tuple([group for group in usable if group in wanted])

    def remember(self, entry: str, server: str | None, group: NamedGroup) -> None:
        """The server chose that group."""
        self._chosen[entry, server] = group
        self._chosen.move_to_end((entry, server))
        if len(self._chosen) > REMEMBERED:
            self._chosen.popitem(last=False)
