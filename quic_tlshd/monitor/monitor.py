"""The monitor: an upcall's life from ACCEPT to DONE.

    netlink, kernel or user space --> _begin --> registry: which entries may serve this request
                                                 worker pool: do it on this socket
                                       finish <- outcome
                            DONE <--           --> one line in the log

It owns what is worth protecting (private keys, netlink, the registry) and reads no handshake: of what a network peer
sent it sees a PSK identity, to look up, and what a worker reports for DONE and the log. Exactly one DONE per ACCEPT:
`finish` is called once per request, and the status is EIO until it is known better.
"""

from __future__ import annotations

import asyncio
import errno
import grp
import logging
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

from msgspec.structs import replace

from netlink.descriptors import close_elsewhere
from netlink.handshake import Accept, Done
from netlink.kernel import KernelHandshakeSocket
from netlink.limited_log import LimitedLog
from netlink.upcall import Upcall, UpcallServer
from quic_tlshd.monitor.admission import Origin, RequestError, admit, peer_address
from quic_tlshd.monitor.done import done_of
from quic_tlshd.monitor.keyring import Keyrings
from quic_tlshd.monitor.modules import load_tls
from quic_tlshd.monitor.namespaces import Namespaces
from quic_tlshd.monitor.notify import notify, notify_reloading
from quic_tlshd.monitor.privileges import UserError, run_first
from quic_tlshd.monitor.report import describe, located
from quic_tlshd.monitor.sessions import Sessions
from quic_tlshd.monitor.threads import in_thread
from quic_tlshd.monitor.workers import WorkerPool
from quic_tlshd.policy import config as configuration
from quic_tlshd.policy import entries, refresh
from quic_tlshd.policy.config import Config, ConfigError, KernelUpcalls
from quic_tlshd.policy.entries import Loaded
from quic_tlshd.policy.files import open_private
from quic_tlshd.policy.refresh import Refresher
from quic_tlshd.request import HandshakeOutcome
from quic_tlshd.status import kernel_errno

log = logging.getLogger(__name__)
refused = LimitedLog(log)

DRAIN_TIMEOUT = 3.0  # seconds that running handshakes have when the daemon is told to stop


class Monitor:
    """The daemon. `config` is what `path` held (None: the file was searched for), which a reload loads anew."""

    def __init__(self, config: Config, path: Path | None, level: int) -> None:
        self._started = config  # what the sockets and workers are made by
        self._config = config
        self._path = path
        self._loaded = entries.load(config)
        self._refresher = Refresher(self._loaded)
        self._reloading: asyncio.Task[None] | None = None
        self._wants_reload = False
        self._pool = WorkerPool(config.worker.count, config.worker.user, level, _open_key_log(config))
        self._upcalls = UpcallServer(
            str(config.upcall.socket), self._accept_user, mode=config.upcall.socket_mode, group=_group(config)
        )
        self._kernel = Namespaces(self._accept_kernel)
        self._keyrings = Keyrings(config.keyrings)
        self._sessions = Sessions(config.ticket_keys)
        self._ids = count(1)
        self._running = 0  # requests in flight
        self._stop = asyncio.Event()
        self._idle = asyncio.Event()

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT. StartError, OSError or ConfigError if it can't begin."""
        _warn(self._config, self._loaded)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        loop.add_signal_handler(signal.SIGHUP, self.reload)
        load_tls()
        self._pool.use(self._loaded.registry)
        await self._pool.start()
        try:
            self._config.upcall.socket.parent.mkdir(parents=True, exist_ok=True)
            self._upcalls.open()
            await self._open_kernel()
            log.info("ready: %d entries, upcalls at %s", len(self._loaded.registry.entries), self._config.upcall.socket)
            notify("READY=1")
            refreshing = asyncio.create_task(self._refresh())
            await self._stop.wait()
            refreshing.cancel()
            notify("STOPPING=1")
            await self._drain()
        finally:
            await self._pool.close()
            self._upcalls.close()
            self._kernel.close()

    def reload(self) -> None:
        """Load the configuration anew, and once more after that if told so meanwhile."""
        self._wants_reload = True
        if self._reloading is None or self._reloading.done():
            self._reloading = asyncio.create_task(self._reload())

    async def _reload(self) -> None:
        """If the configuration is bad the running one stays, whole. It is loaded in a thread: keys take their time, and
        those in tokens may take any."""
        while self._wants_reload:
            self._wants_reload = False
            notify_reloading()
            try:
                self._use(*await in_thread(_load, self._path))
            except ConfigError as error:
                for line in (error, *error.others):
                    log.error("reload refused, nothing changed: %s", line)
            except OSError as error:
                log.error("reload refused, nothing changed: %s", error)
            except Exception:
                log.exception("reload failed")
            finally:
                notify("READY=1")

    def _use(self, config: Config, loaded: Loaded) -> None:
        _warn(config, loaded)
        if _fixed(config) != _fixed(self._started):
            log.warning(
                "the changes in [upcall], of [worker] count and user, and of [debug] keylog need a restart;"
                " the rest is in force"
            )
        self._config, self._loaded = config, loaded
        self._refresher = Refresher(loaded)
        self._keyrings.use(config.keyrings)
        self._sessions.use(config.ticket_keys)
        self._pool.use(loaded.registry)
        self._kernel.use(config.netns)
        log.info("reloaded: %d entries", len(loaded.registry.entries))

    async def _refresh(self) -> None:
        """Have renewed revocation lists and OCSP responses used."""
        while True:
            await asyncio.sleep(refresh.INTERVAL)
            refresher = self._refresher
            try:
                changed = await in_thread(refresher.refresh, datetime.now(UTC))
            except Exception:  # what was loaded before is still good
                log.exception("files that may have been renewed can't be looked at")
                continue
            if changed and refresher is self._refresher:  # or there was a reload meanwhile
                self._loaded = refresher.loaded
                self._pool.use(self._loaded.registry)

    async def _open_kernel(self) -> None:
        wanted = self._config.upcall.kernel
        if wanted is KernelUpcalls.NO:
            return
        try:
            self._keyrings.open()
            await self._kernel.open()
        except OSError as error:
            if wanted is KernelUpcalls.YES:
                raise
            log.info("no upcalls from the kernel, only from user space: %s", error.strerror or error)
        else:
            run_first()
            log.info("listening for upcalls from the kernel")
            self._kernel.use(self._config.netns)

    async def _drain(self) -> None:
        """Let the handshakes in flight end; no new one is begun. What is left then is answered as the pool closes."""
        log.info("stopping with %d handshakes in flight", self._running)
        with suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_TIMEOUT if self._running else 0):
                await self._idle.wait()

    def _accept_kernel(self, accept: Accept, kernel: KernelHandshakeSocket, netns: str | None) -> None:
        fd = accept.sockfd

        def report(done: Done) -> None:
            kernel.done(done)
            os.close(fd)
            if accept.keyring is not None:
                # Later: requests that are accepted but not begun may have come with the same.
                asyncio.get_running_loop().call_soon(self._keyrings.release, accept.keyring)

        if accept.keyring is not None:
            self._keyrings.hold(accept.keyring)
        self._begin(accept, Origin("the kernel", peer_address(fd), netns, self._keyrings), report)

    def _accept_user(self, upcall: Upcall) -> None:
        def report(done: Done) -> None:
            upcall.done(done)
            close_elsewhere(upcall.sock_fd, upcall.peer.uid)

        id = self._begin(upcall.accept, Origin(str(upcall.peer), peer_address(upcall.sock_fd)), report)  # noqa: A001
        upcall.cancelled = lambda: self._pool.cancel(id)

    def _begin(self, accept: Accept, origin: Origin, report: Callable[[Done], None]) -> int:
        """Give the request to a worker; `report` is called once, now or later. The request's id."""
        id = next(self._ids)  # noqa: A001
        try:
            if self._stop.is_set():
                raise RequestError(errno.ETIMEDOUT, "the daemon is stopping")
            admission = admit(id, accept, origin, self._config, self._loaded, self._sessions)
        except RequestError as error:
            refused.warning("request of %s refused: %s", located(origin.peer, origin.netns), error)
            report(Done(status=error.errno, sockfd=accept.sockfd, reason=str(error)))
            return id

        def finish(outcome: HandshakeOutcome) -> None:
            self._running -= 1
            if not self._running:
                self._idle.set()
            if origin.keyrings is not None:
                outcome = replace(outcome, status=kernel_errno(outcome.status))
            done = Done(status=errno.EIO, sockfd=accept.sockfd)
            try:
                log.log(logging.WARNING if outcome.status else logging.INFO, "%s", describe(admission.request, outcome))
                done = done_of(accept, origin, admission, outcome)
            finally:
                report(done)

        self._running += 1
        self._idle.clear()
        self._pool.perform(admission.request, accept.sockfd, admission.grant, finish)
        return id


def _open_key_log(config: Config) -> int:
    """The file that the workers are to write secrets to, -1 if they are not. ConfigError if it can't be opened."""
    named = config.debug.keylog
    if named is None:
        return -1
    try:
        key_log = open_private(named.path)
    except OSError as error:
        raise named.source.error(f"keylog: {named.path}: {error.strerror}") from None
    log.warning("whoever can read %s can decrypt all connections from now on: [debug] keylog is set", named.path)
    return key_log


def _load(path: Path | None) -> tuple[Config, Loaded]:
    config = configuration.load(path)
    return config, entries.load(config)


def _group(config: Config) -> int:
    """The number of the upcall socket's group, -1 for the daemon's own. UserError if there is no such group."""
    name = config.upcall.socket_group
    try:
        return -1 if name is None else grp.getgrnam(name).gr_gid
    except KeyError:
        raise UserError(f"there is no group {name} for the upcall socket") from None


def _fixed(config: Config) -> tuple[object, ...]:
    """What a reload can't change."""
    return config.upcall, config.worker.count, config.worker.user, config.debug.keylog


def _warn(config: Config, loaded: Loaded) -> None:
    for warning in (*config.warnings, *loaded.warnings):
        log.warning("%s", warning)
