"""What a line of the log may hold, for a terminal and for the journal."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from quic_tlshd.log import printable, set_up

LOG = logging.getLogger("quic_tlshd.test")


@pytest.fixture(autouse=True)
def _restore(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("JOURNAL_STREAM", raising=False)
    root, asyncio_level = logging.getLogger(), logging.getLogger("asyncio").level
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.getLogger("asyncio").setLevel(asyncio_level)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("bücher.example …", "bücher.example …"),
        ("a\nb\r", r"a\nb\r"),
        ("\x1b[2J\x00\x7f\x85", r"\x1b[2J\x00\x7f\x85"),
        ("\u202eexe.a\u2028", r"\u202eexe.a\u2028"),  # what turns a terminal's text around, and what ends a line
        ("it's \udcff", r"it's \udcff"),
    ],
)
def test_what_is_not_printable_is_escaped(text: str, expected: str) -> None:
    assert printable(text) == expected


def test_a_record_is_one_line_whatever_it_quotes(capsys: pytest.CaptureFixture[str]) -> None:
    set_up(logging.INFO)
    LOG.warning("the name %s", "a\n<3>forged\x1b[31m")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith(r"WARNING the name a\n<3>forged\x1b[31m")


@pytest.mark.parametrize(
    ("level", "prefix"),
    [(logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6), (logging.DEBUG, 7), (25, 6)],
)
def test_the_journal_is_told_the_priority_and_knows_the_time_itself(
    level: int, prefix: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOURNAL_STREAM", "8:12345")
    set_up(logging.DEBUG)
    LOG.log(level, "a\nb")
    assert capsys.readouterr().err == f"<{prefix}>a\\nb\n"


def fail() -> None:
    try:
        raise ValueError("a\nbad \x1b name")
    except ValueError:
        LOG.exception("it failed")


def test_no_traceback_at_info(capsys: pytest.CaptureFixture[str]) -> None:
    set_up(logging.INFO)
    LOG.debug("not shown", exc_info=ValueError())
    fail()
    LOG.warning("here", stack_info=True)
    failed, here = capsys.readouterr().err.splitlines()
    assert failed.endswith(r"it failed: ValueError('a\nbad \x1b name')")
    assert here.endswith("here")


def test_debugging_shows_the_traceback_without_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    set_up(logging.DEBUG)
    fail()
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].endswith("it failed")
    assert lines[1].startswith("Traceback")
    assert lines[-1] == r"bad \x1b name"


def test_levels(capsys: pytest.CaptureFixture[str]) -> None:
    set_up(logging.DEBUG)
    logging.getLogger("asyncio").info("chatter")
    LOG.debug("shown")
    assert capsys.readouterr().err.count("\n") == 1
