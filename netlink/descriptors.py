"""Descriptors that somebody else has opened: what they are, and closing them without waiting for what that does.

close(2) may block for as long as their opener likes: the flush of a FUSE file, a TCP socket with SO_LINGER. So may the
close of an AF_UNIX socket in whose queue such a socket waits unread. Therefore a thread does it, one for each owner who
has something to close: who blocks it waits only for himself. fstat(2) may block just the same; asking a socket what it
is does not.
"""

from __future__ import annotations

import os
import socket
import threading
from collections import Counter
from collections.abc import Hashable
from contextlib import suppress
from queue import Empty, SimpleQueue
from time import sleep

IDLE = 5.0  # seconds that a thread waits for more to close
GATHER = 0.02  # seconds that it lets more come: to wake it costs the other threads more than the close itself

_lock = threading.Lock()
_queues: dict[Hashable, SimpleQueue[int]] = {}
_waiting: Counter[Hashable] = Counter()


def close_elsewhere(fd: int, owner: Hashable = None) -> None:
    """Close `fd` soon and without waiting. `owner` is whose it is: a uid, or None for the kernel. Never raises."""
    with _lock:
        _waiting[owner] += 1
        queue = _queues.get(owner)
        if queue is not None:
            queue.put(fd)
            return
        queue = SimpleQueue()
        queue.put(fd)
        thread = threading.Thread(target=_close_all, args=(owner, queue), name=f"close for {owner}", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # no more threads
            _waiting[owner] -= 1
        else:
            _queues[owner] = queue
            return
    with suppress(OSError):
        os.close(fd)


def still_open(owner: Hashable = None) -> int:
    """How many descriptors of `owner` are not closed yet."""
    with _lock:
        return _waiting[owner]


def _close_all(owner: Hashable, queue: SimpleQueue[int]) -> None:
    while True:
        try:
            fd = queue.get(timeout=IDLE)
        except Empty:
            with _lock:
                if queue.empty():
                    del _queues[owner], _waiting[owner]
                    return
            continue
        sleep(GATHER)
        with suppress(Empty):
            while True:
                with suppress(OSError):
                    os.close(fd)
                with _lock:
                    _waiting[owner] -= 1
                fd = queue.get_nowait()


def why_no_socket(fd: int) -> str | None:
    """None for a socket, else what is wrong with `fd`, which stays open. Looks at no file."""
    try:
        probe = socket.socket(fileno=fd)  # getsockname(2) and getsockopt(2); EBADF for one opened with O_PATH
    except OSError as error:
        return error.strerror or str(error)
    probe.detach()
    return None
