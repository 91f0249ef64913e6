"""Ticket keys, and the memory of early data that was taken."""

from __future__ import annotations

from dataclasses import dataclass

from quic_tlshd.monitor.sessions import MOST_CLAIMS, PERIOD, REMEMBERED, Claims, Sessions, Tickets
from quic_tlshd.tls.parameters import EARLY_DATA_WINDOW
from quic_tlshd.tls.ticket import MAX_LIFETIME


@dataclass
class Clock:
    """monotonic: since the boot. offset: what the calendar is ahead of that."""

    monotonic: float = 1000.0
    offset: float = 1_500_000_000.0

    def now(self) -> float:
        return self.monotonic

    def calendar(self) -> float:
        return self.monotonic + self.offset

    def claims(self) -> Claims:
        return Claims(self.now, self.calendar)


def test_made_up_keys_follow_one_another() -> None:
    clock = Clock()
    tickets = Tickets(clock=clock.now)
    first = tickets.seal(b"state", "h3")
    clock.monotonic += PERIOD
    second = tickets.seal(b"state", "h3")
    assert first[:8] != second[:8]
    assert tickets.open(first, "h3") == tickets.open(second, "h3") == b"state"
    clock.monotonic += MAX_LIFETIME
    assert tickets.open(first, "h3") is None
    assert tickets.open(second, "h3") == b"state"


def test_given_keys_are_those_of_other_hosts_too() -> None:
    old, new = b"o" * 32, b"n" * 32
    before, after = Tickets((old,)), Tickets((new, old))
    assert after.open(before.seal(b"state", "h3"), "h3") == b"state"
    assert before.open(after.seal(b"state", "h3"), "h3") is None
    assert Tickets((new,)).open(after.seal(b"state", "h3"), "h3") == b"state"
    assert Tickets().open(after.seal(b"state", "h3"), "h3") is None


def test_a_reload_changes_keys_only_if_they_are_others() -> None:
    sessions = Sessions(())
    (ticket,) = sessions.of(("h3",)).seal((b"state",), "h3")
    sessions.use(())
    assert sessions.of(("h3",)).open(ticket, "h3") == b"state"
    sessions.use((b"s" * 32,))
    assert sessions.of(("h3",)).open(ticket, "h3") is None


def test_a_claim_is_good_once() -> None:
    claims = Clock().claims()
    assert claims.claim(b"one")
    assert claims.claim(b"two")
    assert not claims.claim(b"one")


def test_it_is_remembered_for_as_long_as_it_could_be_fresh() -> None:
    """Whenever it comes between two turns of the memory."""
    for wait in range(int(2 * REMEMBERED)):
        clock = Clock()
        claims = clock.claims()
        clock.monotonic += wait
        assert claims.claim(b"one")
        for _ in range(int(2 * EARLY_DATA_WINDOW)):
            clock.monotonic += 1
            assert not claims.claim(b"one")


def test_it_is_not_remembered_for_ever() -> None:
    clock = Clock()
    claims = clock.claims()
    for number in range(50):
        assert claims.claim(b"one"), number
        clock.monotonic += 2 * REMEMBERED


def test_with_given_keys_a_new_daemon_knows_that_the_last_one_may_have_taken_some() -> None:
    clock = Clock()
    of = Sessions((b"s" * 32,), clock.claims()).of(("h3",))
    clock.monotonic += REMEMBERED - 0.1
    assert not of.claims.claim(b"one")
    clock.monotonic += 0.1
    assert of.claims.claim(b"one")


def test_with_keys_of_its_own_nobody_else_can_have() -> None:
    assert Sessions((), Clock().claims()).of(("h3",)).claims.claim(b"one")


def test_keys_that_are_given_later() -> None:
    clock = Clock()
    sessions = Sessions((), clock.claims())
    sessions.use((b"s" * 32,))
    assert not sessions.of(("h3",)).claims.claim(b"one")


def test_a_full_memory_says_no() -> None:
    clock = Clock()
    claims = clock.claims()
    assert all(claims.claim(number.to_bytes(32, "big")) for number in range(MOST_CLAIMS))
    assert not claims.claim(b"one more")
    clock.monotonic += REMEMBERED
    assert claims.claim(b"one more")
    assert not claims.claim(bytes(32))


def test_when_the_calendar_goes_back_old_hellos_are_fresh_again() -> None:
    clock = Clock()
    claims = clock.claims()
    assert claims.claim(b"one")
    clock.monotonic += 3600
    clock.offset -= 3600
    assert not claims.claim(b"one")
    assert not claims.claim(b"two")
    clock.monotonic += 3600 + REMEMBERED - 1
    assert not claims.claim(b"two")
    clock.monotonic += 1
    assert claims.claim(b"two")


def test_small_corrections_of_the_calendar_are_none() -> None:
    clock = Clock()
    claims = clock.claims()
    for number in range(10):
        clock.offset -= 0.05
        assert claims.claim(b"%d" % number)
    for number in range(20):
        clock.offset -= 0.05
        last = claims.claim(b"more %d" % number)
    assert not last  # they add up


def test_a_calendar_that_goes_forward_is_none_of_its_business() -> None:
    clock = Clock()
    claims = clock.claims()
    clock.offset += 86400
    assert claims.claim(b"one")
    clock.offset += 86400
    assert not claims.claim(b"one")
    assert claims.claim(b"two")
