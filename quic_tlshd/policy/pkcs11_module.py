"""PKCS #11 modules: the libraries that tokens are used through. One call at a time, from whatever thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

try:
    import pkcs11
except ImportError:
    pkcs11 = None  # type: ignore[assignment]  # the extra `pkcs11` is not installed

PROXY = "libp11-kit.so.0"  # p11-kit's proxy for all modules of the system, by the name that it has everywhere
BUSY = 5.0  # seconds that a call waits for others
MOST_WAITING = 32  # calls to one module
_PATIENCE = 1.0  # seconds between two attempts to start a module anew


class TokenError(Exception):
    """A token that can't be used, or not now; the reason."""


@cache
def module(path: Path | None) -> Module:
    """One for the process, which loads a library once."""
    if pkcs11 is None:
        raise TokenError("keys in tokens need python-pkcs11: install quic-tlshd[pkcs11]")
    return Module(PROXY if path is None else str(path))


class Module:
    """One library. starts: how often it was started; sessions from before the last time are gone."""

    def __init__(self, name: str) -> None:
        self.starts = 0
        self._name = name
        self._lock = threading.Lock()
        self._places = threading.BoundedSemaphore(MOST_WAITING)
        self._may_restart = 0.0

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Have the module to oneself; TokenError if others keep it. All else here needs that."""
        if not self._places.acquire(blocking=False):
            raise TokenError(f"{MOST_WAITING} others wait for the token")
        try:
            if not self._lock.acquire(timeout=BUSY):
                raise TokenError("the token is busy, or hangs")
            try:
                yield
            finally:
                self._lock.release()
        finally:
            self._places.release()

    def tokens(self) -> list[Any]:
        """The tokens that are there now, None for one that can't be read."""
        try:
            slots = pkcs11.lib(self._name).get_slots(token_present=True)
        except (pkcs11.PKCS11Error, RuntimeError) as error:
            raise TokenError(f"the module {self._name} can't be used ({str(error) or reason(error)})") from None
        return list(map(_token_in, slots))

    def restart(self) -> bool:
        """Start the module anew, which finds tokens that it has lost; False if that was done just now."""
        if time.monotonic() < self._may_restart:
            return False
        self._may_restart = time.monotonic() + _PATIENCE
        self.starts += 1
        try:
            pkcs11.lib(self._name).reinitialize()
        except (pkcs11.PKCS11Error, RuntimeError) as error:
            raise TokenError(f"the module {self._name} does not start again ({str(error) or reason(error)})") from None
        return True


def reason(error: Exception) -> str:
    """What python-pkcs11 calls the CKR_ value."""
    return type(error).__name__


def _token_in(slot: Any) -> Any:
    try:
        return slot.get_token()
    except pkcs11.PKCS11Error:
        return None
