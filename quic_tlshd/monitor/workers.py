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

from quic_tlshd import channel
from quic_tlshd.channel import Channel, ChannelError, ToMonitor
from quic_tlshd.monitor.privileges import unprivileged
from quic_tlshd.monitor.signer import Grant, RefusedError
from quic_tlshd.policy.registry import Registry
from quic_tlshd.request import HandshakeOutcome, HandshakeRequest

log = logging.getLogger(__name__)

START_TIMEOUT = 20.0  # seconds until a new worker must be ready
GRACE = 2.0  # seconds over its time that a request may take before its worker counts as silent
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
    """`count` workers of `user` (see privileges.unprivileged) that log at `level`."""

    def __init__(self, count: int, user: str | None, level: int) -> None:
        self._command = unprivileged([sys.executable, "-P", "-m", "quic_tlshd.worker"], user)
        self._level = level
        self._workers = [_Worker(self) for _ in range(count)]
        self._registry = Registry()
        self._keepers: list[asyncio.Task[None]] = []

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
        await worker.start(self._command, self._level)
        worker.use(self._registry)
        async with asyncio.timeout(START_TIMEOUT):
            await worker.ready

    def use(self, registry: Registry) -> None:
        """The registry for all later requests; what runs keeps the one that it began with."""
        self._registry = registry
        for worker in self._workers:
            worker.use(registry)

    def perform(
        self, request: HandshakeRequest, fd: int, grant: Grant, done: Callable[[HandshakeOutcome], None]
    ) -> None:
        """Have the least busy worker do the handshake on `fd`, which stays the caller's."""
        worker = min(self._workers, key=lambda candidate: (not candidate.alive, len(candidate.jobs)))
        if worker.alive:
            worker.perform(request, fd, grant, done)
        else:
            done(HandshakeOutcome(status=EIO, reason="no worker is running"))

    def cancel(self, id: int) -> None:  # noqa: A002 - the request's field
        """Nobody waits for that request's outcome any more; it is given all the same."""
        for worker in self._workers:
            if id in worker.jobs:
                worker.cancel(id)

    async def close(self) -> None:
        """End the workers; what still runs is answered with EIO."""
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        await asyncio.gather(*[worker.stop() for worker in self._workers])

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
            else:
                log.warning("worker %d took over", worker.pid)


class _Worker:
    """One place in the pool: the process that is in it now, and its jobs by request id."""

    def __init__(self, pool: WorkerPool) -> None:
        self.jobs: dict[int, _Job] = {}
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._process: Process | None = None
        self._channel: Channel[ToMonitor] | None = None

    @property
    def alive(self) -> bool:
        return self._channel is not None

    @property
    def pid(self) -> int:
        return self._process.pid if self._process is not None else 0

    async def start(self, command: list[str], level: int) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.ready = asyncio.get_running_loop().create_future()
        with theirs:
            self._process = await asyncio.create_subprocess_exec(
                *command, str(theirs.fileno()), str(level), pass_fds=[theirs.fileno()], stdin=asyncio.subprocess.DEVNULL
            )
        self._channel = Channel(ours, ToMonitor, self._on_message, self._on_end, fds=False)

    def use(self, registry: Registry) -> None:
        if self._channel is not None:
            fd = channel.pack_registry(registry)
            self._channel.send(channel.UseRegistry(), fd)
            os.close(fd)

    def perform(
        self, request: HandshakeRequest, fd: int, grant: Grant, done: Callable[[HandshakeOutcome], None]
    ) -> None:
        assert self._channel is not None
        deadline = asyncio.get_running_loop().call_later(request.timeout + GRACE, self._end, "it went silent")
        self.jobs[request.id] = _Job(request, grant, done, deadline)
        self._channel.send(channel.Perform(request), fd)

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
        match message:
            case channel.Sign() | channel.FindPsk():
                self._grant(message)
            case channel.Outcome(id, outcome):
                # A job that is gone was answered by its deadline.
                if (job := self.jobs.pop(id, None)) is not None:
                    job.deadline.cancel()
                    job.done(outcome)
            case channel.Ready():
                if not self.ready.done():
                    self.ready.set_result(None)

    def _grant(self, message: channel.Sign | channel.FindPsk) -> None:
        """Answer what a worker asks for, as its request's grant allows."""
        assert self._channel is not None
        job = self.jobs.get(message.id)
        try:
            if job is None:
                raise RefusedError("there is no such request")
            self._channel.send(_answer(job.grant, message))
        except RefusedError as error:
            log.error("worker %d was refused the use of a key: %s", self.pid, error)
            self._channel.send(channel.Refused(message.id, str(error)))

    def _on_end(self, error: ChannelError | None) -> None:
        self._end("its channel closed" if error is None else str(error))

    def _end(self, why: str) -> None:
        """The process is of no more use: kill it, and answer for its jobs. `wait` goes on from there."""
        if self._channel is None:
            return
        log.error("worker %d is given up with %d handshakes: %s", self.pid, len(self.jobs), why)
        self._drop()
        if self._process is not None and self._process.returncode is None:
            self._process.kill()

    def _drop(self) -> None:
        if self._channel is not None:
            self._channel.close()
            self._channel = None
        if not self.ready.done():
            self.ready.set_exception(StartError("it ended at once"))
            self.ready.exception()  # seen: nobody may be waiting any more
        jobs, self.jobs = self.jobs, {}
        for job in jobs.values():
            job.deadline.cancel()
            job.done(HandshakeOutcome(status=EIO, reason="the worker ended"))


def _answer(grant: Grant, message: channel.Sign | channel.FindPsk) -> channel.Signature | channel.PskAnswer:
    if isinstance(message, channel.Sign):
        signature = grant.sign(message.certificate, message.scheme, message.transcript_hash)
        return channel.Signature(message.id, signature)
    found = grant.find_psk(message.identities)
    return channel.PskAnswer(message.id) if found is None else channel.PskAnswer(message.id, found.index, found.psk)
