"""The daemon's side of the user-space upcall, on asyncio: no task and no thread per connection or message.

Callers are local and unprivileged, and any of them may be hostile. What one does wrong costs only itself: connections
and outstanding upcalls are bounded for each user, a connection's unread answers are bounded, every descriptor that
comes with something other than a good request is closed (by a thread: netlink/descriptors.py), and log lines that they
cause are few. One event loop, not thread-safe.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import logging
import os
import socket
import stat
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from netlink.limited_log import LimitedLog
from netlink.upcall.connection import Connection, Limits, OnAccept, Peer, Upcall, close_connection

__all__ = ["Limits", "Peer", "Upcall", "UpcallServer"]

log = logging.getLogger(__name__)

BACKLOG = 1024
TURN = 16  # connections accepted before the rest of the event loop has its turn
PAUSE = 0.5  # seconds without accepting after the process ran out of descriptors


class UpcallServer:
    """Listens at `path`, or on a `listener` that is listening already, and calls `on_accept(upcall)` for every request.

    mode, group: of the path; -1 leaves it the group that it is made with.

    `on_accept` is called from the event loop and must not block. It owns `upcall.sock_fd` from then on, unless it
    raises: then the descriptor is closed and the caller gets EIO.
    """

    def __init__(
        self,
        path: str | None,
        on_accept: OnAccept,
        *,
        mode: int = 0o600,
        group: int = -1,
        listener: socket.socket | None = None,
        limits: Limits | None = None,
    ) -> None:
        self._path = path
        self._on_accept = on_accept
        self._mode = mode
        self._group = group
        self._listener = listener
        self._limits = limits or Limits()
        self._inode: tuple[int, int] | None = None
        self._connections: set[Connection] = set()
        self._users: Counter[int] = Counter()  # connections of each uid
        self._upcalls: Counter[int] = Counter()  # outstanding upcalls of each uid
        self._log = LimitedLog(log)
        self._resume: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()

    def open(self) -> None:
        """Start to listen. OSError(EADDRINUSE) if somebody does so at `path`; a dead one's socket is replaced."""
        if self._listener is None:
            assert self._path is not None
            self._listener = _listen(self._path, self._mode, self._group)
            status = os.stat(self._path)
            self._inode = status.st_dev, status.st_ino
        self._listener.setblocking(False)
        self._loop.add_reader(self._listener.fileno(), self._accept)

    def close(self) -> None:
        """Stop listening, remove the path and close every connection, which cancels its upcalls."""
        if self._listener is None:
            return
        if self._resume is not None:
            self._resume.cancel()
        self._loop.remove_reader(self._listener.fileno())
        self._remove_path()
        self._listener.close()
        self._listener = None
        for connection in list(self._connections):
            connection.close()

    def _remove_path(self) -> None:
        """Remove our socket, but not one that another daemon has put in its place."""
        if self._inode is None or self._path is None:
            return
        with suppress(FileNotFoundError):
            status = os.lstat(self._path)
            if (status.st_dev, status.st_ino) == self._inode:
                os.unlink(self._path)

    def _accept(self) -> None:
        assert self._listener is not None
        for _ in range(TURN):
            try:
                accepted, _address = self._listener.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as error:
                self._pause(error)
                return
            self._take(accepted)

    def _pause(self, error: OSError) -> None:
        """The listener would stay readable and the event loop would spin."""
        assert self._listener is not None
        log.error("no connection can be accepted for %g s: %s", PAUSE, error)
        self._loop.remove_reader(self._listener.fileno())
        self._resume = self._loop.call_later(PAUSE, self._loop.add_reader, self._listener.fileno(), self._accept)

    def _take(self, accepted: socket.socket) -> None:
        peer = Peer.of(accepted)
        if len(self._connections) >= self._limits.connections:
            self._log.warning("connection of %s refused: %d connections in all", peer, self._limits.connections)
            close_connection(accepted, peer)
        elif self._users[peer.uid] >= self._limits.connections_per_user:
            self._log.debug("connection of %s refused: %d of this user", peer, self._limits.connections_per_user)
            close_connection(accepted, peer)
        else:
            self._users[peer.uid] += 1
            connection = Connection(
                accepted, peer, self._on_accept, self._limits, self._upcalls, self._log, self._forget
            )
            self._connections.add(connection)

    def _forget(self, connection: Connection) -> None:
        self._connections.discard(connection)
        self._users[connection.peer.uid] -= 1


def _listen(path: str, mode: int, group: int) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        with _lock(path):
            _bind(listener, path)
            try:
                if group != -1:
                    os.chown(path, -1, group)
                os.chmod(path, mode)  # nobody can connect before listen
                listener.listen(BACKLOG)
            except BaseException:
                with suppress(FileNotFoundError):
                    os.unlink(path)
                raise
    except BaseException as error:
        listener.close()
        if isinstance(error, OSError) and error.filename is None:
            raise OSError(error.errno, error.strerror, path) from error
        raise
    return listener


@contextmanager
def _lock(path: str) -> Iterator[None]:
    """No other daemon is between bind and listen, where its socket looks like a dead one's. The file stays there."""
    lock = os.open(path + ".lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OSError(errno.EADDRINUSE, "another process begins to listen here", path) from None
        yield
    finally:
        os.close(lock)


def _bind(listener: socket.socket, path: str) -> None:
    try:
        listener.bind(path)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        _remove_stale(path)
        listener.bind(path)


def _remove_stale(path: str) -> None:
    """Remove a socket that nobody listens on; OSError(EADDRINUSE) for anything else."""
    if not stat.S_ISSOCK(os.lstat(path).st_mode):
        raise OSError(errno.EADDRINUSE, "not a socket", path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
        except OSError as error:  # another type of socket, or a full backlog
            log.debug("probe of %s: %s", path, error)
    raise OSError(errno.EADDRINUSE, "another process listens here", path)
