"""The kernel's upcalls of all network namespaces that are served: ours, and those of ip-netns(8) that [netns] names.

ip-netns(8) keeps a namespace by mounting it on a file in /run/netns. So one that comes or goes is a change of the mount
table, for which the kernel has an event (proc_pid_mountinfo(5)); an inotify event on the folder would come before the
file is mounted on. A netlink socket keeps its namespace alive, so ours is closed when the name goes.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import select
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from netlink.family import Family, resolve_family
from netlink.handshake import FAMILY, Accept
from netlink.kernel import KernelHandshakeSocket
from quic_tlshd.policy.config import Netns

log = logging.getLogger(__name__)

NAMED = Path("/run/netns")
_OWN = Path("/proc/thread-self/ns/net")
_MOUNTS = Path("/proc/self/mountinfo")

_Identity = tuple[int, int]  # of a namespace: st_dev, which all have in common, and st_ino of its file


class Namespaces:
    """`on_accept` gets each request, the socket that takes its DONE, and the name of its namespace, None for ours."""

    def __init__(self, on_accept: Callable[[Accept, KernelHandshakeSocket, str | None], None]) -> None:
        self._on_accept = on_accept
        self._wanted = Netns()
        self._family: Family | None = None
        self._own = self._socket(None)
        self._served: dict[_Identity, tuple[str, KernelHandshakeSocket]] = {}
        self._unserved: dict[str, str] = {}  # names and why, as it was last told
        self._mounts: _MountTable | None = None

    async def open(self) -> None:
        """Serve our own. The errors are those of KernelHandshakeSocket.open, and then none is served."""
        family = await resolve_family(FAMILY)
        self._own.join(family)
        self._family = family

    def use(self, wanted: Netns) -> None:
        """Serve these too from now on, as far and as long as they exist."""
        self._wanted = wanted
        if self._family is None:
            return
        if self._mounts is None and (wanted.all or wanted.names):
            self._mounts = _MountTable(self._look)
        self._look()

    def close(self) -> None:
        """What was accepted can't be ended any more."""
        if self._mounts is not None:
            self._mounts.close()
            self._mounts = None
        for _, sock in self._served.values():
            sock.close()
        self._served.clear()
        self._own.close()

    def _socket(self, name: str | None) -> KernelHandshakeSocket:
        def take(accept: Accept) -> None:
            self._on_accept(accept, sock, name)

        sock = KernelHandshakeSocket(take)
        return sock

    def _look(self) -> None:
        """Serve what is wanted and there, and nothing else."""
        there = self._named()
        for identity in self._served.keys() - set(there.values()):
            name, sock = self._served.pop(identity)
            sock.leave()
            log.info("network namespace %s is served no longer", name)
        unserved = {name: "there is none yet" for name in self._wanted.names if name not in there}
        own = _identity(os.stat(_OWN))
        for name, identity in there.items():
            if identity in self._served or identity == own:
                continue
            try:
                self._serve(name, identity)
            except OSError as error:
                lacks = " (CAP_SYS_ADMIN)" if error.errno == errno.EPERM else ""
                unserved[name] = f"{error.strerror or error}{lacks}"
        for name, reason in unserved.items():
            if self._unserved.get(name) != reason:
                log.warning("network namespace %s is not served: %s", name, reason)
        self._unserved = unserved

    def _named(self) -> dict[str, _Identity]:
        """The wanted ones that exist. Two names may be one namespace."""
        there: dict[str, _Identity] = {}
        with suppress(FileNotFoundError):
            for name in sorted(filter(self._wanted.has, os.listdir(NAMED))):
                with suppress(OSError):
                    there[name] = _identity(os.stat(NAMED / name))
        device = os.stat(_OWN).st_dev
        return {name: identity for name, identity in there.items() if identity[0] == device}

    def _serve(self, name: str, identity: _Identity) -> None:
        assert self._family is not None
        sock = self._socket(name)
        namespace = os.open(NAMED / name, os.O_RDONLY | os.O_CLOEXEC)
        try:
            sock.join(self._family, namespace)
        finally:
            os.close(namespace)
        self._served[identity] = name, sock
        log.info("listening for upcalls from the kernel in network namespace %s", name)


def _identity(status: os.stat_result) -> _Identity:
    return status.st_dev, status.st_ino


class _MountTable:
    """Calls `changed` whenever a file system was mounted or unmounted in our mount namespace."""

    def __init__(self, changed: Callable[[], None]) -> None:
        self._changed = changed
        self._table = _MOUNTS.open("rb", buffering=0)
        self._events = select.epoll()  # of its own: to be readable, which the table always is, is not the event
        self._events.register(self._table, select.EPOLLPRI)
        asyncio.get_running_loop().add_reader(self._events.fileno(), self._on_event)

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._events.fileno())
        self._events.close()
        self._table.close()

    def _on_event(self) -> None:
        self._events.poll(0)
        self._changed()
