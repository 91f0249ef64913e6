"""Sockets in another network namespace: a socket belongs to the one that its thread is in when it is made
(network_namespaces(7))."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

CLONE_NEWNET = 0x40000000  # include/uapi/linux/sched.h

T = TypeVar("T")


def made_in(namespace: int, make: Callable[[], T]) -> T:
    """What `make` gives in a thread of its own that is in the network namespace `namespace`, a descriptor.

    PermissionError without CAP_SYS_ADMIN; another OSError is setns(2)'s or that of `make`.
    """

    def enter_and_make() -> T:
        _setns(namespace)
        return make()

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(enter_and_make).result()


def _setns(namespace: int) -> None:
    """os.setns(), which is there from Python 3.12 on."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(namespace, CLONE_NEWNET) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
