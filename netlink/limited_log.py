"""Log lines that anybody can cause: so many in a second, then how many more there were."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from time import monotonic

MOST = 10
SECONDS = 1.0


class LimitedLog:
    """A logger that writes `most` lines in `seconds`; at their end one line counts the others. One event loop."""

    def __init__(
        self,
        log: logging.Logger,
        *,
        most: int = MOST,
        seconds: float = SECONDS,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._log = log
        self._most = most
        self._seconds = seconds
        self._clock = clock
        self._end = clock()
        self._written = 0
        self._more = 0
        self._level = logging.NOTSET  # the gravest of those that were not written

    def log(self, level: int, message: str, *args: object, exc_info: bool = False) -> None:
        """As logging.Logger.log."""
        if not self._log.isEnabledFor(level):
            return
        now = self._clock()
        if now >= self._end:
            self._tell()
            self._end, self._written = now + self._seconds, 0
        if self._written < self._most:
            self._written += 1
            self._log.log(level, message, *args, exc_info=exc_info)
            return
        if self._more == 0:
            with suppress(RuntimeError):  # no event loop: the next line tells
                asyncio.get_running_loop().call_later(self._end - now, self._tell)
        self._more += 1
        self._level = max(self._level, level)

    def debug(self, message: str, *args: object) -> None:
        self.log(logging.DEBUG, message, *args)

    def info(self, message: str, *args: object) -> None:
        self.log(logging.INFO, message, *args)

    def warning(self, message: str, *args: object) -> None:
        self.log(logging.WARNING, message, *args)

    def error(self, message: str, *args: object) -> None:
        self.log(logging.ERROR, message, *args)

    def exception(self, message: str, *args: object) -> None:
        self.log(logging.ERROR, message, *args, exc_info=True)

    def _tell(self) -> None:
        if self._more:
            self._log.log(self._level, "%d more lines like these", self._more)
        self._more, self._level = 0, logging.NOTSET
