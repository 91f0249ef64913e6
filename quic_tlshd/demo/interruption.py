"""^C, SIGTERM and SIGHUP: they end the demo, and what it has started, in order.

A signal never raises an exception wherever the demo may be: nothing could be sure of its cleaning up then. Before
anything is started it ends the process, from then on it is kept in mind, and everything that waits looks at it.
"""

from __future__ import annotations

import os
import signal

NOTICE = "The demo was interrupted."
STEP = 0.02  # seconds between two looks

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_came: list[int] = []


class InterruptionError(Exception):
    """A signal says that the demo shall end."""


def end_at_once() -> None:
    """Have a signal end the process: there is nothing to clean up yet."""
    for number in _SIGNALS:
        signal.signal(number, _end)


def end_in_order() -> None:
    """Have a signal make `check` raise."""
    for number in _SIGNALS:
        signal.signal(number, lambda came, _: _came.append(came))


def check() -> None:
    """InterruptionError if a signal came."""
    if _came:
        raise InterruptionError


def exit_status() -> int:
    """What a shell says of a program that the signal ended."""
    return 128 + (_came[0] if _came else signal.SIGINT)


def _end(came: int, _: object) -> None:
    os.write(2, f"{NOTICE}\n".encode())
    os._exit(128 + came)
