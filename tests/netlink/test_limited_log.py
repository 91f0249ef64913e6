"""How many lines a caller can cause."""

from __future__ import annotations

import asyncio
import logging

import pytest

from netlink.limited_log import LimitedLog

LOG = logging.getLogger("test.limited")


def texts(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


def test_the_next_line_tells_of_those_before(caplog: pytest.LogCaptureFixture) -> None:
    now = 100.0
    limited = LimitedLog(LOG, most=2, seconds=1, clock=lambda: now)
    for number in range(5):
        limited.warning("line %d", number)
    assert texts(caplog) == ["line 0", "line 1"]
    now += 1
    limited.warning("line 5")
    assert texts(caplog)[2:] == ["3 more lines like these", "line 5"]
    now += 1
    limited.warning("line 6")
    assert texts(caplog)[4:] == ["line 6"]


async def test_the_end_of_the_time_tells_too(caplog: pytest.LogCaptureFixture) -> None:
    limited = LimitedLog(LOG, most=1, seconds=0.02)
    limited.warning("a")
    limited.warning("b")
    limited.error("c")
    await asyncio.sleep(0.05)
    assert texts(caplog) == ["a", "2 more lines like these"]
    assert caplog.records[-1].levelno == logging.ERROR
    await asyncio.sleep(0.05)
    assert len(caplog.records) == 2


def test_lines_that_nobody_asked_for_do_not_count(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, LOG.name)
    limited = LimitedLog(LOG, most=1, seconds=60)
    for _ in range(5):
        limited.debug("not heard")
    limited.info("heard")
    assert texts(caplog) == ["heard"]
