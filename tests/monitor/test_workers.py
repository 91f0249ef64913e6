"""The pool: every request that it takes is answered, whatever becomes of the process that has it; and when that counts
as silent."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import time
from collections.abc import AsyncIterator
from errno import EIO
from pathlib import Path

import pytest

from quic_tlshd import channel
from quic_tlshd.monitor import workers
from quic_tlshd.monitor.signer import Grant
from quic_tlshd.monitor.workers import WorkerPool
from quic_tlshd.request import AuthMode, HandshakeOutcome, HandshakeRequest, Role

INTERVAL = 0.5  # seconds between the questions to a worker


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


@pytest.fixture
async def worker(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[int]:
    """The process id of the only one of a pool."""
    monkeypatch.setattr(workers, "PING_INTERVAL", INTERVAL)
    pool = WorkerPool(1, None, logging.INFO)
    before = children()
    await pool.start()
    (pid,) = children() - before
    await asyncio.sleep(INTERVAL / 2)  # asked once, and has answered
    yield pid
    await pool.close()


async def until_said(text: str, caplog: pytest.LogCaptureFixture) -> None:
    async with asyncio.timeout(10):
        while text not in caplog.text:
            await asyncio.sleep(0.01)


async def test_who_answers_stays(worker: int, caplog: pytest.LogCaptureFixture) -> None:
    await asyncio.sleep(3 * INTERVAL)
    assert not caplog.records


async def test_who_does_not_is_replaced(worker: int, caplog: pytest.LogCaptureFixture) -> None:
    os.kill(worker, signal.SIGSTOP)
    await until_said("went silent", caplog)
    await until_said("took over", caplog)


async def test_a_halt_of_all_is_no_ones_fault(
    worker: int, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was asked, and then neither it nor we had a turn for longer than it has to answer."""
    asked = asyncio.Event()
    ping = channel.Ping()
    monkeypatch.setattr(channel, "Ping", lambda: asked.set() or ping)
    os.kill(worker, signal.SIGSTOP)
    async with asyncio.timeout(10):
        await asked.wait()
    time.sleep(INTERVAL + 2 * workers.STALL)
    os.kill(worker, signal.SIGCONT)
    await asyncio.sleep(3 * INTERVAL)
    assert not caplog.records


async def test_a_held_request_that_is_cancelled() -> None:
    """It does not wait for a worker any more."""
    pool = WorkerPool(1, None, logging.ERROR)
    outcomes: list[HandshakeOutcome] = []
    request = HandshakeRequest(
        id=1, role=Role.SERVER, auth_mode=AuthMode.X509, deadline=time.monotonic() + 5, peer="a peer"
    )
    pool.perform(request, -1, Grant(Role.SERVER, {}), outcomes.append)
    assert not outcomes
    pool.cancel(1)
    assert [outcome.reason for outcome in outcomes] == ["the request was cancelled"]
    await pool.close()
