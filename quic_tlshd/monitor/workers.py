"""The pool of worker processes: starts them by exec, spreads the requests, and answers for those that die or go silent.

Every request that `perform` takes gets exactly one call of its `done`, with EIO if its worker could not give one.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import sys
from asyncio.subprocess import Process
from collections.abc import Callable
from dataclasses import dataclass
from errno import EIO
from pathlib import Path

import quic_tlshd
from netlink.handshake import MAX_STATUS
from quic_tlshd import __version__, channel
from quic_tlshd.channel import Channel, ChannelError, ToMonitor
from quic_tlshd.monitor.privileges import unprivileged
from quic_tlshd.monitor.signer import Grant, RefusedError, Signing
from quic_tlshd.monitor.threads import in_thread
from quic_tlshd.policy.credentials import Pace
from quic_tlshd.policy.pkcs11_module import TokenError
from quic_tlshd.policy.registry import Registry
from quic_tlshd.request import PSK, AuthMode, HandshakeOutcome, HandshakeRequest

log = logging.getLogger(__name__)

PING_INTERVAL = 5.0  # seconds; a worker that has said nothing from one ping to the next is silent
STALL = 0.5  # seconds by which the monitor's own turn came late
START_TIMEOUT = 20.0  # seconds until a new worker must be ready
GRACE = 2.0  # seconds over its time that a request may take before its worker counts as silent
_ENVIRONMENT = ("PATH", "LANG", "LC_ALL", "JOURNAL_STREAM", "PYTHONPYCACHEPREFIX")  # what a worker needs of ours
_FIRST_DELAY, _LAST_DELAY = 0.1, 5.0  # seconds before a worker that died is replaced


class StartError(Exception):
    """A worker did not come up."""


@dataclass(slots=True)
class _Job:
    request: HandshakeRequest
    grant: Grant
    done: Callable[[HandshakeOutcome], None]
    deadline: asyncio.TimerHandle


class WorkerPool:
    """`count` workers of `user` (see privileges.unprivileged) that log at `level`, and secrets to the file that is open
    as `key_log` (-1: not at all)."""

    def __init__(self, count: int, user: str | None, level: int, key_log: int = -1) -> None:
        self._command = unprivileged([sys.executable, "-P", "-m", "quic_tlshd.worker"], user)
        self._level = level
        self._key_log = key_log
        self._workers = [_Worker() for _ in range(count)]
        self._registry = Registry()
        self._keepers: list[asyncio.Task[None]] = []
        self._held: list[tuple[HandshakeRequest, int, Grant, Callable[[HandshakeOutcome], None]]] = []

    async def start(self) -> None:
        """StartError unless all workers come up."""
        try:
            await asyncio.gather(*[self.start_worker(worker) for worker in self._workers])
        except (TimeoutError, OSError, StartError) as error:
            await self.close()
            raise StartError(
                f"a worker did not start: {str(error) or 'it was not ready in time'} (by {' '.join(self._command)})"
            ) from None
        self._keepers = [asyncio.create_task(self._keep(worker)) for worker in self._workers]

    async def start_worker(self, worker: _Worker) -> None:
        await worker.start(self._command, self._level, self._key_log)
        self._send_registry([worker])
        async with asyncio.timeout(START_TIMEOUT):
            await worker.ready
        held, self._held = self._held, []
        for request in held:
            self.perform(*request)

    def use(self, registry: Registry) -> None:
        """The registry for all later requests; what runs keeps the one that it began with."""
        self._registry = registry
        self._send_registry(self._workers)

    def _send_registry(self, workers: list[_Worker]) -> None:
        fd = channel.pack_registry(self._registry)
        for worker in workers:
            worker.use(fd)
        os.close(fd)

    def perform(
        self, request: HandshakeRequest, fd: int, grant: Grant, done: Callable[[HandshakeOutcome], None]
    ) -> None:
        """Have the least busy worker do the handshake on `fd`, which stays the caller's until `done` is called.

        Without a worker that is ready the request is held until one is, or has failed to come up.
        """
        worker = min(self._workers, key=lambda candidate: (not candidate.is_ready, len(candidate.jobs)))
        if not worker.is_ready:
            self._held.append((request, fd, grant, done))
            return
        try:
            worker.perform(request, fd, grant, done)
        except OSError as error:
            done(HandshakeOutcome(status=EIO, reason=f"the socket can't be passed on: {error.strerror}"))

    def cancel(self, id: int) -> None:  # noqa: A002 - the request's field
        """Nobody waits for that request's outcome any more; it is given all the same."""
        for worker in self._workers:
            if id in worker.jobs:
                worker.cancel(id)
        for held in [held for held in self._held if held[0].id == id]:
            self._held.remove(held)
            held[3](HandshakeOutcome(status=EIO, reason="the request was cancelled"))

    async def close(self) -> None:
        """End the workers; what still runs is answered with EIO."""
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        self._refuse_held()
        await asyncio.gather(*[worker.stop() for worker in self._workers])

    def _refuse_held(self) -> None:
        held, self._held = self._held, []
        for _request, _fd, _grant, done in held:
            done(HandshakeOutcome(status=EIO, reason="no worker is running"))

    async def _keep(self, worker: _Worker) -> None:
        """Replace the worker whenever it dies, at once the first time and more slowly if it keeps dying."""
        delay = _FIRST_DELAY
        while True:
            born = asyncio.get_running_loop().time()
            await worker.wait()
            if asyncio.get_running_loop().time() - born > 60:
                delay = _FIRST_DELAY
            await asyncio.sleep(delay)
            delay = min(2 * delay, _LAST_DELAY)
            try:
                await self.start_worker(worker)
            except (TimeoutError, OSError, StartError) as error:
                log.error("a worker did not start again: %s", str(error) or "it was not ready in time")
                await worker.stop()
                if not any(each.is_ready for each in self._workers):
                    self._refuse_held()
            else:
                log.warning("worker %d took over", worker.pid)


class _Worker:
    """One place in the pool: the process that is in it now, and its jobs by request id."""

    def __init__(self) -> None:
        self.jobs: dict[int, _Job] = {}
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._process: Process | None = None
        self._answered = True  # the last ping, by whatever
        self._ping: asyncio.TimerHandle | None = None
        self._channel: Channel[ToMonitor] | None = None
        self._signing: set[asyncio.Task[None]] = set()

    @property
    def is_ready(self) -> bool:
        return self._channel is not None and self.ready.done() and self.ready.exception() is None

    @property
    def pid(self) -> int:
        return self._process.pid if self._process is not None else 0

    async def start(self, command: list[str], level: int, key_log: int) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.ready = asyncio.get_running_loop().create_future()
        with theirs:
            self._process = await asyncio.create_subprocess_exec(
                *command,
                str(theirs.fileno()),
                str(level),
                str(key_log),
                pass_fds=[fd for fd in (theirs.fileno(), key_log) if fd >= 0],
                stdin=asyncio.subprocess.DEVNULL,
                env=_environment(),
            )
        self._channel = Channel(ours, ToMonitor, self._on_message, self._on_end, fds=False)
        self._answered = True

    def use(self, registry: int) -> None:
        """`registry`: a descriptor as channel.pack_registry gives it, which stays the caller's."""
        if self._channel is not None:
            self._channel.send(channel.UseRegistry(), registry)

    def perform(
        self, request: HandshakeRequest, fd: int, grant: Grant, done: Callable[[HandshakeOutcome], None]
    ) -> None:
        """OSError if the fd can't be passed on; `done` is not called then."""
        assert self._channel is not None
        loop = asyncio.get_running_loop()
        deadline = loop.call_at(max(request.deadline, loop.time()) + GRACE, self._end, "it went silent")
        # Before it is sent: that may show that the process has died, which is answered for what is in here.
        self.jobs[request.id] = _Job(request, grant, done, deadline)
        try:
            self._channel.send(channel.Perform(request), fd)
        except OSError:
            deadline.cancel()
            del self.jobs[request.id]
            raise

    def cancel(self, id: int) -> None:  # noqa: A002
        if self._channel is not None:
            self._channel.send(channel.Cancel(id))

    async def wait(self) -> None:
        """Until the process has ended, and with it every job."""
        if self._process is not None:
            status = await self._process.wait()
            self._end(f"it ended with status {status}")

    async def stop(self) -> None:
        """Let the process end by itself, which it does when its channel closes, or kill it."""
        self._drop()
        if self._process is None:
            return
        try:
            async with asyncio.timeout(1.0):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()

    def _on_message(self, message: ToMonitor, _fd: int) -> None:
        self._answered = True
        match message:
            case channel.Sign() | channel.FindPsk() | channel.SealTickets() | channel.ClaimEarlyData():
                self._grant(message)
            case channel.Outcome(id, outcome):
                self._finish(id, outcome)
            case channel.Pong():
                pass
            case channel.Ready(version):
                if version != __version__:
                    self._end(f"it is of version {version}, the monitor of {__version__}: restart the service")
                elif not self.ready.done():
                    self.ready.set_result(None)
                    self._ping_or_end()

    def _finish(self, id: int, outcome: HandshakeOutcome) -> None:  # noqa: A002
        job = self.jobs.get(id)
        if job is None or not _is_possible(outcome, job.request):
            self._end("it reports an outcome that can't be")
            return
        del self.jobs[id]
        job.deadline.cancel()
        job.done(outcome)

    def _ping_or_end(self) -> None:
        """Every PING_INTERVAL: a worker that hangs must not cost its handshakes all of their time. If we come late
        ourselves, as on a machine that was halted, it may not have had its turn either."""
        if self._channel is None:
            return
        loop = asyncio.get_running_loop()
        if self._answered:
            self._answered = False
            self._channel.send(channel.Ping())
        elif self._ping is not None and loop.time() - self._ping.when() < STALL:
            self._end("it went silent")
            return
        self._ping = loop.call_later(PING_INTERVAL, self._ping_or_end)

    def _grant(self, message: channel.Question) -> None:
        """Answer what a worker asks for, as its request's grant allows."""
        assert self._channel is not None
        job = self.jobs.get(message.id)
        try:
            if job is None:
                raise RefusedError("there is no such request")
            if isinstance(message, channel.Sign):
                self._sign(message.id, job.grant.signing(message.certificate, message.scheme, message.transcript_hash))
            else:
                self._channel.send(_answer(job.grant, message))
        except RefusedError as error:
            self._end(f"it asked for the use of a key that it may not have: {error}")
        except Exception as error:  # noqa: BLE001 - the worker must not wait for an answer until its time is up
            log.error("what request %d needs of the keys can't be had: %r", message.id, error)
            self.cancel(message.id)

    def _sign(self, id: int, signing: Signing) -> None:  # noqa: A002
        """Send the signature, at once or, so that others need not wait for it, from a thread."""
        assert self._channel is not None
        if signing.pace is Pace.QUICK:
            self._channel.send(channel.Signature(id, signing()))
            return
        task = asyncio.create_task(_sign_elsewhere(self._channel, id, signing))
        self._signing.add(task)
        task.add_done_callback(self._signing.discard)

    def _on_end(self, error: ChannelError | None) -> None:
        self._end("its channel closed" if error is None else str(error))

    def _end(self, why: str) -> None:
        """The process is of no more use: kill it, and answer for its jobs. `wait` goes on from there."""
        if self._channel is None:
            return
        log.error("worker %d is given up with %d running: %s", self.pid, len(self.jobs), why)
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
        self._drop()

    def _drop(self) -> None:
        if self._channel is not None:
            self._channel.close()
            self._channel = None
        if self._ping is not None:
            self._ping.cancel()
        if not self.ready.done():
            self.ready.set_exception(StartError("it ended at once"))
            self.ready.exception()  # seen: nobody may be waiting any more
        jobs, self.jobs = self.jobs, {}
        for job in jobs.values():
            job.deadline.cancel()
            try:
                job.done(HandshakeOutcome(status=EIO, reason="the worker ended"))
            except Exception:
                log.exception("request %d was not answered well", job.request.id)  # and the others must be


def _environment() -> dict[str, str]:
    """What a worker starts with: little of ours, and the same code as we run, wherever that was loaded from."""
    ours = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    return {**ours, "PYTHONPATH": str(Path(quic_tlshd.__file__).parents[1])}


def _is_possible(outcome: HandshakeOutcome, request: HandshakeRequest) -> bool:
    """Whether an honest worker could report this. What it says of the peer is believed, for nobody else knows."""
    known = (*request.entries, PSK) if request.auth_mode is AuthMode.PSK else request.entries
    return 0 <= outcome.status <= MAX_STATUS and (outcome.entry is None or outcome.entry in known) and not outcome.tags


async def _sign_elsewhere(to: Channel[ToMonitor], id: int, signing: Signing) -> None:  # noqa: A002
    """A token may never answer, so its thread is one that can be left behind."""
    run = in_thread if signing.pace is Pace.ANY else asyncio.to_thread
    answer: channel.Answer
    try:
        answer = channel.Signature(id, await run(signing))
    except TokenError as error:
        answer = channel.NoSignature(id, str(error))
    except Exception as error:
        log.exception("a signature can't be made")
        answer = channel.NoSignature(id, type(error).__name__)
    to.send(answer)


def _answer(grant: Grant, message: channel.FindPsk | channel.SealTickets | channel.ClaimEarlyData) -> channel.Answer:
    match message:
        case channel.SealTickets(id, entry, states):
            return channel.Tickets(id, grant.seal(entry, states))
        case channel.ClaimEarlyData(id, claim):
            return channel.EarlyDataAnswer(id, grant.claim(claim))
        case channel.FindPsk(id, entry, identities):
            index, found = grant.find_psk(entry, identities) or (-1, b"")
            if isinstance(found, bytes):
                return channel.PskAnswer(id, index, state=found)
            return channel.PskAnswer(id, index, found)
