"""Logging to standard error, for a person or for the journal."""

from __future__ import annotations

import logging
import os
import sys
from copy import copy
from typing import Any

# sd-daemon(3): the journal takes a line's syslog priority from its prefix.
_PRIORITIES = {logging.CRITICAL: 2, logging.ERROR: 3, logging.WARNING: 4, logging.INFO: 6, logging.DEBUG: 7}


class _Formatter(logging.Formatter):
    """One record, one line: control characters, which a peer may have put into a name, are escaped. A traceback keeps
    its lines; only debugging shows it, else the exception alone is told."""

    def __init__(self, *, journal: bool, tracebacks: bool) -> None:
        super().__init__("%(message)s" if journal else "%(asctime)s %(levelname)-7s %(message)s")
        self._journal = journal
        self._tracebacks = tracebacks

    def format(self, record: logging.LogRecord) -> str:
        if not self._tracebacks and (record.exc_info or record.stack_info):
            error = record.exc_info[1] if record.exc_info else None
            record = copy(record)
            if error is not None:
                record.msg, record.args = f"{record.getMessage()}: {error!r}", ()
            record.exc_info = record.exc_text = record.stack_info = None
        return super().format(record)

    def formatException(self, ei: Any) -> str:  # noqa: N802 - logging's name
        return "\n".join(printable(line) for line in super().formatException(ei).split("\n"))

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
    handler.setFormatter(_Formatter(journal="JOURNAL_STREAM" in os.environ, tracebacks=level <= logging.DEBUG))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for library in ("asyncio", "pyroute2"):
        logging.getLogger(library).setLevel(logging.WARNING)
