"""The kernel's upcalls themselves, as quic-tlshd has to take them."""

from __future__ import annotations

import errno
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.vm.guest import hsgen, keyring, netns
from tests.vm.guest.conftest import name_of
from tests.vm.guest.handlers import QuicTlshd, until
from tests.vm.guest.hsgen import Kind
from tests.vm.guest.scenario import Handlers, handshake

OURS = ("quic-tlshd", "quic-tlshd")
AT_ONCE = 64  # pairs, each of them two upcalls
pytestmark = pytest.mark.parametrize("pair", [OURS], indirect=True, ids=name_of)


def daemon_of(handler: object) -> QuicTlshd:
    assert isinstance(handler, QuicTlshd)
    return handler


def descriptors(handler: QuicTlshd) -> list[int]:
    """How many the monitor and its workers have."""
    daemon = handler.daemon
    return [len(os.listdir(f"/proc/{pid}/fd")) for pid in (daemon.pid, *daemon.children)]


def test_many_at_once(pair: Handlers) -> None:
    with ExitStack() as stack, ThreadPoolExecutor(AT_ONCE) as pool:
        connections = [stack.enter_context(netns.connection()) for _ in range(AT_ONCE)]
        results = list(pool.map(lambda ends: handshake(*ends, Kind.CLIENT_ANON, timeout_ms=20000), connections))
    assert all(result.succeeded for both in results for result in both), results


def test_monitor_runs_first(pair: Handlers) -> None:
    """The kernel has no patience with requests that nobody accepts; what the workers do is in no such hurry."""
    daemon = daemon_of(pair.server).daemon
    assert os.sched_getscheduler(daemon.pid) == os.SCHED_RR | os.SCHED_RESET_ON_FORK
    assert [os.sched_getscheduler(worker) for worker in daemon.children] == [os.SCHED_OTHER]


def test_worker_dies(pair: Handlers) -> None:
    """The consumer gets an error at once, and a new worker serves who comes when it is there."""
    daemon = daemon_of(pair.server).daemon
    with netns.connection() as (_, server), ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(hsgen.run, server.fileno(), Kind.SERVER_X509, timeout_ms=20000)
        time.sleep(1)
        for worker in daemon.children:
            os.kill(worker, signal.SIGKILL)
        result = waiting.result()
    assert result.status == -errno.EIO, result
    assert result.seconds < 10
    daemon.wait_for_log("took over")
    with netns.connection() as (client, server):
        results = handshake(client, server, Kind.CLIENT_ANON, timeout_ms=20000)
    assert all(result.succeeded for result in results), results


def test_keyring_of_the_request(pair: Handlers) -> None:
    """ACCEPT links the request's keyring to the daemon's process keyring, which must not keep it."""
    netns.execute("modprobe", "nvme-keyring")
    ring = keyring.find(keyring.NVME)
    serial = keyring.add("psk", keyring.nvme_identity("client", "its keyring"), bytes(32), ring)
    with netns.connection() as (client, server):
        results = handshake(client, server, Kind.CLIENT_PSK, peerids=(serial,), keyring=ring)
    assert all(result.succeeded for result in results), results
    assert process_keyrings(), "the daemons have no process keyrings: this test looks at nothing"
    until(lambda: set(process_keyrings()) == {"_pid: empty"}, "nothing is kept")  # which may be after DONE


def process_keyrings() -> list[str]:
    lines = Path("/proc/keys").read_text().splitlines()
    return [line.split(maxsplit=8)[8] for line in lines if " _pid: " in line]


def test_requests_older_than_the_daemon(pair: Handlers) -> None:
    """The daemon ends with requests unaccepted, which its successor finds without any READY."""
    handler = daemon_of(pair.server)
    with ExitStack() as stack, ThreadPoolExecutor(3) as pool:
        with handler.daemon.suspended():
            servers = [stack.enter_context(netns.connection())[1] for _ in range(3)]
            waiting = [
                pool.submit(hsgen.run, each.fileno(), Kind.SERVER_X509, timeout_ms=500, wait_ms=60000)
                for each in servers
            ]
            time.sleep(1)
            handler.daemon.kill()
        handler.start()
        results = [each.result() for each in waiting]
    # Nobody is at the other ends: that they were looked at shows in the time limit, which is the daemon's to keep.
    assert [result.status for result in results] == [-errno.ETIMEDOUT] * 3, results
