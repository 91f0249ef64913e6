"""The pool: every request that it takes is answered, whatever becomes of the process that has it."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import time
from errno import EIO
from pathlib import Path

from quic_tlshd.monitor.signer import Grant
from quic_tlshd.monitor.workers import WorkerPool
from quic_tlshd.request import AuthMode, HandshakeOutcome, HandshakeRequest, Role


def die(pid: int) -> None:
    """Kill a process and wait until its end of the channel is closed, while the event loop hears of nothing."""
    os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while _state(pid) not in ("Z", ""):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def children() -> set[int]:
    return {int(pid) for pid in Path("/proc/thread-self/children").read_text().split()}


def test_a_worker_that_has_died_unnoticed() -> None:
    """The request is answered at once, and does not wait in the place of the dead for its time limit."""

    async def run() -> list[HandshakeOutcome]:
        before = children()
        pool = WorkerPool(1, None, logging.ERROR)
        await pool.start()
        try:
            (worker,) = children() - before
            die(worker)
            ours, theirs = socket.socketpair()
            outcomes: list[HandshakeOutcome] = []
            with ours, theirs:
                request = HandshakeRequest(
                    id=1, role=Role.SERVER, auth_mode=AuthMode.X509, deadline=time.monotonic() + 5, peer="a peer"
                )
                pool.perform(request, ours.fileno(), Grant(Role.SERVER, {}), outcomes.append)
                async with asyncio.timeout(3):
                    while not outcomes:
                        await asyncio.sleep(0.01)
        finally:
            await pool.close()
        return outcomes

    (outcome,) = asyncio.run(run())
    assert outcome.status == EIO
