"""What sessions need of the daemon as a whole: the ticket keys, and the memory of early data that was taken.

Both are here since all workers share them, and no worker is to have the keys. A ticket is opaque to the monitor: it
seals what a worker gives it and gives back what it sealed, for the registry entry that the worker's request may use.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from quic_tlshd.tls.parameters import EARLY_DATA_WINDOW
from quic_tlshd.tls.ticket import TicketKey, TicketKeys

PERIOD = 86400.0
"""Seconds for which one key seals, if the keys are ours to make up."""
REMEMBERED = 2 * EARLY_DATA_WINDOW + 2
"""Seconds. A ClientHello is fresh for twice the window, and the calendar may go back by one second unnoticed."""
MOST_CLAIMS = 1 << 15
"""In one half of the memory; a claim has 32 to 48 bytes."""


class Tickets:
    """Seals and opens tickets, with the given secrets (the first seals, and all open), or with keys that are made up,
    follow one another, and are gone with this process."""

    def __init__(self, secrets: tuple[bytes, ...] = (), clock: Callable[[], float] = time.monotonic) -> None:
        self._given = [TicketKey(secret) for secret in secrets]
        self._keys = TicketKeys(PERIOD)
        self._clock = clock

    def seal(self, state: bytes, entry: str) -> bytes:
        return self._given[0].seal(state, entry) if self._given else self._keys.seal(state, entry, self._clock())

    def open(self, ticket: bytes, entry: str) -> bytes | None:
        """The state; None if the ticket is not ours, or for another entry."""
        if not self._given:
            return self._keys.open(ticket, entry, self._clock())
        return next((state for key in self._given if (state := key.open(ticket, entry)) is not None), None)


class Claims:
    """Which early data was taken: RFC 8446 section 8.2, "Client Hello Recording".

    On doubt it may not be: for a while after `doubt`, for as long as the calendar, which tells what is fresh, was set
    back, and while the memory is full.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, calendar: Callable[[], float] = time.time) -> None:
        self._clock, self._calendar = clock, calendar
        self._offset = calendar() - clock()
        self._turned = clock()
        self._certain = clock()
        self._new: set[bytes] = set()
        self._old: set[bytes] = set()

    def doubt(self) -> None:
        """Another process may have taken what comes now."""
        self._certain = self._clock() + REMEMBERED

    def claim(self, id: bytes) -> bool:  # noqa: A002 - what the event calls it
        """Whether it may be taken, which is so once."""
        now = self._clock()
        self._heed_calendar(now)
        if now >= self._turned + REMEMBERED:
            self._old = self._new if now < self._turned + 2 * REMEMBERED else set()
            self._new, self._turned = set(), now
        if now < self._certain or id in self._new or id in self._old or len(self._new) >= MOST_CLAIMS:
            return False
        self._new.add(id)
        return True

    def _heed_calendar(self, now: float) -> None:
        offset = self._calendar() - now
        if offset < self._offset - 1:
            self._certain = max(self._certain, now + self._offset - offset + REMEMBERED)
            self._offset = offset
        self._offset = max(self._offset, offset)


class Sessions:
    """The daemon's. secrets: see `Tickets`; a reload may give others. With given ones there may be early data under way
    that this process, before it was restarted, has taken."""

    def __init__(self, secrets: tuple[bytes, ...], claims: Claims | None = None) -> None:
        self._claims = claims or Claims()
        self._secrets: tuple[bytes, ...] = ()
        self._tickets = Tickets()
        self.use(secrets)

    def use(self, secrets: tuple[bytes, ...]) -> None:
        if secrets != self._secrets:
            self._secrets, self._tickets = secrets, Tickets(secrets)
            self._claims.doubt()

    def of(self, entries: tuple[str, ...]) -> SessionsOf:
        return SessionsOf(self._tickets, self._claims, entries)


@dataclass(frozen=True, slots=True)
class SessionsOf:
    """What one request may have of that: tickets for its registry entries. For any other nothing opens, and nothing is
    sealed."""

    tickets: Tickets
    claims: Claims
    entries: tuple[str, ...]

    def open(self, ticket: bytes, entry: str) -> bytes | None:
        return self.tickets.open(ticket, entry) if entry in self.entries else None

    def seal(self, states: tuple[bytes, ...], entry: str) -> tuple[bytes, ...]:
        return tuple([self.tickets.seal(state, entry) for state in states]) if entry in self.entries else ()
