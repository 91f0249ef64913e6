"""Logging to standard error, for a person or for the journal."""

from __future__ import annotations

import logging
import os
import sys

# sd-daemon(3): the journal takes a line's syslog priority from its prefix.
_PRIORITIES = {logging.CRITICAL: 2, logging.ERROR: 3, logging.WARNING: 4, logging.INFO: 6, logging.DEBUG: 7}


class _Formatter(logging.Formatter):
    """One record, one line: control characters, which a peer may have put into a name, are escaped. A traceback, which
    only debugging shows, keeps its lines."""

    def __init__(self, *, journal: bool) -> None:
        super().__init__("%(message)s" if journal else "%(asctime)s %(levelname)-7s %(message)s")
        self._journal = journal

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        record.message = printable(record.message)
        line = super().formatMessage(record)
        return f"<{_PRIORITIES.get(record.levelno, 6)}>{line}" if self._journal else line


def printable(text: str) -> str:
    """The text with everything escaped that could change what a terminal or a log file shows."""
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def set_up(level: int) -> None:
    """Log records of `level` and above."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter(journal="JOURNAL_STREAM" in os.environ))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.getLogger("asyncio").setLevel(logging.WARNING)
