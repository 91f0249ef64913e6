"""The monitor: an upcall's life from ACCEPT to DONE.

    netlink, kernel or user space --> _begin --> registry: which entries may serve this request
                                                 worker pool: do it on this socket
                                      _finish <- outcome
                            DONE <--           --> one line in the log

It owns what is worth protecting (private keys, netlink, the registry) and never parses a byte that came from a network
peer. Exactly one DONE per ACCEPT: `_finish` is called once per request, and the status is EIO until it is known better.
"""

from __future__ import annotations

import asyncio
import errno
import grp
import logging
import os
import signal
import socket
import stat
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from pathlib import Path

from netlink.handshake import Accept, Done, MessageType
from netlink.kernel import KernelHandshakeSocket
from netlink.upcall import Upcall, UpcallServer
from quic_tlshd.monitor.modules import load_tls
from quic_tlshd.monitor.notify import notify, notify_reloading
from quic_tlshd.monitor.privileges import UserError
from quic_tlshd.monitor.report import describe
from quic_tlshd.monitor.signer import Grant
from quic_tlshd.monitor.workers import WorkerPool
from quic_tlshd.policy import config as configuration
from quic_tlshd.policy import entries
from quic_tlshd.policy.config import Config, ConfigError, KernelUpcalls
from quic_tlshd.policy.entries import Loaded
from quic_tlshd.policy.resolve import candidates
from quic_tlshd.request import AuthMode, HandshakeOutcome, HandshakeRequest, Role

log = logging.getLogger(__name__)

DRAIN_TIMEOUT = 3.0  # seconds that running handshakes have when the daemon is told to stop
_ROLES = {MessageType.CLIENTHELLO: Role.CLIENT, MessageType.SERVERHELLO: Role.SERVER}
_PEER_AUTHENTICATED = (
    0xFFFFFFFF  # what tlshd's server reports, for NFSD: any number but 0 says "mutually authenticated"
)


class RequestError(Exception):
    """A request that can't be begun; `errno` is what DONE says."""

    def __init__(self, errno: int, reason: str) -> None:
        super().__init__(reason)
        self.errno = errno


class Monitor:
    """The daemon. `config` is what `path` held (None: the file was searched for), which a reload loads anew."""

    def __init__(self, config: Config, path: Path | None, level: int) -> None:
        self._started = config  # what the sockets and workers are made by
        self._config = config
        self._path = path
        self._loaded = entries.load(config)
        self._pool = WorkerPool(config.worker.count, config.worker.user, level)
        self._upcalls = UpcallServer(
            str(config.upcall.socket), self._accept_user, mode=config.upcall.socket_mode, group=_group(config)
        )
        self._kernel = KernelHandshakeSocket(self._accept_kernel)
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
        await self._pool.start()
        try:
            self._pool.use(self._loaded.registry)
            self._config.upcall.socket.parent.mkdir(parents=True, exist_ok=True)
            self._upcalls.open()
            await self._open_kernel()
            log.info("ready: %d entries, upcalls at %s", len(self._loaded.registry.entries), self._config.upcall.socket)
            notify("READY=1")
            await self._stop.wait()
            notify("STOPPING=1")
            await self._drain()
        finally:
            await self._pool.close()
            self._upcalls.close()
            self._kernel.close()

    def reload(self) -> None:
        """Load the configuration anew. If it is bad the running one stays, whole."""
        notify_reloading()
        try:
            config = configuration.load(self._path)
            loaded = entries.load(config, self._loaded.registry.generation + 1)
        except ConfigError as error:
            for line in (error, *error.others):
                log.error("reload refused, nothing changed: %s", line)
        else:
            _warn(config, loaded)
            if _fixed(config) != _fixed(self._started):
                log.warning(
                    "the changes in [upcall], and of [worker] count and user, need a restart; the rest is in force"
                )
            self._config, self._loaded = config, loaded
            self._pool.use(loaded.registry)
            log.info("reloaded: %d entries", len(loaded.registry.entries))
        notify("READY=1")

    async def _open_kernel(self) -> None:
        wanted = self._config.upcall.kernel
        if wanted is KernelUpcalls.NO:
            return
        try:
            await self._kernel.open()
        except OSError as error:
            if wanted is KernelUpcalls.YES:
                raise
            log.info("no upcalls from the kernel, only from user space: %s", error.strerror or error)
        else:
            log.info("listening for upcalls from the kernel")

    async def _drain(self) -> None:
        """Let the handshakes in flight end; no new one is begun. What is left then is answered as the pool closes."""
        log.info("stopping with %d handshakes in flight", self._running)
        with suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_TIMEOUT if self._running else 0):
                await self._idle.wait()

    def _accept_kernel(self, accept: Accept) -> None:
        fd = accept.sockfd

        def report(done: Done) -> None:
            self._kernel.done(done)
            os.close(fd)

        self._begin(accept, _peer_of(fd, "the kernel"), report)

    def _accept_user(self, upcall: Upcall) -> None:
        def report(done: Done) -> None:
            upcall.done(done)
            os.close(upcall.sock_fd)

        id = self._begin(upcall.accept, _peer_of(upcall.sock_fd, str(upcall.peer)), report)  # noqa: A001
        upcall.cancelled = lambda: self._pool.cancel(id)

    def _begin(self, accept: Accept, peer: str, report: Callable[[Done], None]) -> int:
        """Give the request to a worker; `report` is called once, now or later. The request's id."""
        id = next(self._ids)  # noqa: A001
        try:
            request = self._read_request(id, accept, peer)
        except RequestError as error:
            outcome = HandshakeOutcome(status=error.errno, reason=str(error))
            log.warning("request of %s refused: %s", peer, error)
            report(_done(accept, None, outcome))
            return id

        def finish(outcome: HandshakeOutcome) -> None:
            self._running -= 1
            if not self._running:
                self._idle.set()
            log.log(logging.WARNING if outcome.status else logging.INFO, "%s", describe(request, outcome))
            report(_done(accept, request.role, outcome))

        self._running += 1
        self._idle.clear()
        self._pool.perform(request, accept.sockfd, self._grant(request), finish)
        return id

    def _read_request(self, id: int, accept: Accept, peer: str) -> HandshakeRequest:  # noqa: A002
        if self._stop.is_set():
            raise RequestError(errno.ETIMEDOUT, "the daemon is stopping")
        try:
            role = _ROLES[MessageType(accept.message_type)]
        except (ValueError, KeyError):
            raise RequestError(errno.EINVAL, f"unknown message type {accept.message_type}") from None
        if accept.auth_mode == AuthMode.PSK:
            raise RequestError(errno.EOPNOTSUPP, "PSK authentication is not supported")
        if accept.auth_mode != AuthMode.X509 and not (accept.auth_mode == AuthMode.UNAUTH and role is Role.CLIENT):
            raise RequestError(errno.EINVAL, f"unknown authentication mode {accept.auth_mode} for a {role.value}")
        times = self._config.worker
        default = times.timeout_server if role is Role.SERVER else times.timeout_client
        chosen = candidates(self._loaded.registry, role, accept.alpn, accept.peername)
        return HandshakeRequest(
            id=id,
            role=role,
            auth_mode=AuthMode(accept.auth_mode),
            timeout=accept.timeout / 1000 if accept.timeout else default,
            peer=peer,
            peername=accept.peername,
            alpn=accept.alpn,
            entries=tuple([entry.name for entry in chosen]),
        )

    def _grant(self, request: HandshakeRequest) -> Grant:
        """What may be signed for the request: with the certificates of its entries, unless it shall show none."""
        if request.auth_mode is not AuthMode.X509:
            return Grant(request.role, {})
        registry, credentials = self._loaded.registry, self._loaded.credentials
        chains = [chain for entry in registry.entries if entry.name in request.entries for chain in entry.certificates]
        return Grant(request.role, {chain.id: credentials[chain.id] for chain in chains})


def _group(config: Config) -> int:
    """The number of the upcall socket's group, -1 for the daemon's own. UserError if there is no such group."""
    name = config.upcall.socket_group
    try:
        return -1 if name is None else grp.getgrnam(name).gr_gid
    except KeyError:
        raise UserError(f"there is no group {name} for the upcall socket") from None


def _done(accept: Accept, role: Role | None, outcome: HandshakeOutcome) -> Done:
    authenticated = outcome.status == 0 and role is Role.SERVER and outcome.peer_chain
    return Done(
        status=outcome.status,
        sockfd=accept.sockfd,
        remote_auth=(_PEER_AUTHENTICATED,) if authenticated else (),
        alpn=outcome.alpn,
        server_name=outcome.server_name,
        entry=outcome.entry,
        tags=outcome.tags,
        peer_chain=outcome.peer_chain if outcome.status == 0 else (),
        alert=outcome.alert,
        reason=outcome.reason or None,
    )


def _peer_of(fd: int, caller: str) -> str:
    """Whom the log names: the address that the socket is connected to, never its reverse DNS, or else who asks."""
    if not stat.S_ISSOCK(os.fstat(fd).st_mode):
        return caller
    with suppress(OSError), socket.socket(fileno=os.dup(fd)) as sock:
        if sock.family in (socket.AF_INET, socket.AF_INET6):
            address = sock.getpeername()
            return f"{address[0]} port {address[1]}"
    return caller


def _fixed(config: Config) -> tuple[object, ...]:
    """What a reload can't change."""
    return config.upcall, config.worker.count, config.worker.user


def _warn(config: Config, loaded: Loaded) -> None:
    for warning in (*config.warnings, *loaded.warnings):
        log.warning("%s", warning)
