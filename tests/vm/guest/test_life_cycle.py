"""A request's end: in time, or when its consumer gives up."""

from __future__ import annotations

import errno
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from tests.vm.guest import hsgen, solo
from tests.vm.guest.handlers import until
from tests.vm.guest.hsgen import Kind, Result
from tests.vm.guest.scenario import handshake
from tests.vm.guest.solo import Solo

TOLERANCE = 0.1  # of a time limit
ROLES = {"client": Kind.CLIENT_ANON, "server": Kind.SERVER_X509}


def elapsed_until(condition: Callable[[], bool], what: str) -> float:
    began = time.monotonic()
    until(condition, what)
    return time.monotonic() - began


def alone(role: str, **options: int) -> Result:
    """A request whose peer is silent: it takes in what is sent, and sends nothing."""
    with solo.connection() as (client, server):
        ours = client if role == "client" else server
        return hsgen.run(ours.fileno(), ROLES[role], "server.test" if role == "client" else "", **options)


def test_time_limits(solo_daemon: Solo, record_property: Callable[[str, object], None]) -> None:
    """Those of the request, and the configuration's where it has none; all at the same time."""
    limits = [(role, milliseconds) for role in ROLES for milliseconds in (2000, 5000, 0)]
    defaults = {"client": 10.0, "server": 5.0}
    with ThreadPoolExecutor(len(limits)) as pool:
        results = list(pool.map(lambda limit: alone(limit[0], timeout_ms=limit[1], wait_ms=30000), limits))
    for (role, milliseconds), result in zip(limits, results, strict=True):
        seconds = milliseconds / 1000 or defaults[role]
        assert result.status == -errno.ETIMEDOUT, (role, seconds, result)
        assert seconds <= result.seconds < seconds * (1 + TOLERANCE), (role, seconds, result)
        record_property(role, f"{role}, {milliseconds / 1000 or 'no time limit'}: ended after {result.seconds:.3f} s")


def test_time_limit_of_a_peer_that_does_not_read(solo_daemon: Solo) -> None:
    """The alert can't be sent, and DONE does not wait for that."""
    with solo.connection() as (client, server):
        client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
        client.setblocking(False)
        try:
            while client.send(bytes(65536)):
                pass
        except BlockingIOError:
            pass
        result = hsgen.run(client.fileno(), Kind.CLIENT_ANON, "server.test", timeout_ms=2000)
        assert result.status == -errno.ETIMEDOUT, result
        assert 2 <= result.seconds < 2 * (1 + TOLERANCE), result
        server.recv(1)


@pytest.mark.parametrize("role", ROLES)
def test_consumer_gives_up(solo_daemon: Solo, role: str, record_property: Callable[[str, object], None]) -> None:
    """It cancels the request and shuts its socket down, as SunRPC and NVMe do: long before the time is over the daemon
    lets go of it, and it serves the next one."""
    before = solo_daemon.descriptors()
    lines = len(solo_daemon.log())
    with solo.connection() as (client, server):
        ours = client if role == "client" else server
        name = "server.test" if role == "client" else ""
        result = hsgen.run(ours.fileno(), ROLES[role], name, timeout_ms=20000, wait_ms=500)
        assert result.cancelled, result
        assert solo_daemon.descriptors() != before
        ours.shutdown(socket.SHUT_RDWR)
        seconds = elapsed_until(lambda: solo_daemon.descriptors() == before, "the socket is closed")
    assert seconds < 1
    record_property(role, f"{role}: let go of after {seconds:.3f} s")
    (line,) = solo_daemon.daemon.lines_since(lines)
    assert "shut down by its owner" in line
    with solo.connection() as ends:
        assert all(result.succeeded for result in handshake(*ends, Kind.CLIENT_ANON))


def test_consumer_gives_up_without_a_word(solo_daemon: Solo) -> None:
    """The daemon can't know; its own time limit ends that."""
    before = solo_daemon.descriptors()
    with solo.connection() as (_, server):  # the kernel takes no second request of a socket: EBUSY
        result = hsgen.run(server.fileno(), Kind.SERVER_X509, timeout_ms=1500, wait_ms=300)
        assert result.cancelled, result
        until(lambda: solo_daemon.descriptors() == before, "the socket is closed")


def test_consumer_gives_up_before_the_daemon_looks(solo_daemon: Solo) -> None:
    before = solo_daemon.descriptors()
    with solo.connection() as (_, server), solo_daemon.daemon.suspended():
        result = hsgen.run(server.fileno(), Kind.SERVER_X509, wait_ms=300)
        assert result.cancelled, result
    with solo.connection() as ends:
        assert all(result.succeeded for result in handshake(*ends, Kind.CLIENT_ANON))
    until(lambda: solo_daemon.descriptors() == before, "nothing is left open")


@pytest.mark.parametrize("end", ["closes", "resets"])
def test_peer_goes(solo_daemon: Solo, end: str) -> None:
    """The consumer hears at once that it may try again."""
    before = solo_daemon.descriptors()
    with solo.connection() as (client, server), ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(hsgen.run, server.fileno(), Kind.SERVER_X509, timeout_ms=20000)
        time.sleep(0.5)
        if end == "resets":
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        client.close()
        result = waiting.result()
    assert result.status == -errno.ETIMEDOUT, result
    assert result.seconds < 5
    until(lambda: solo_daemon.descriptors() == before, "the socket is closed")


def test_some_give_up_and_others_do_not(solo_daemon: Solo) -> None:
    """Of many at once, no DONE goes to the wrong one, and none is lost."""
    before = solo_daemon.descriptors()

    def give_up(ends: tuple[socket.socket, socket.socket]) -> bool:
        result = hsgen.run(ends[1].fileno(), Kind.SERVER_X509, timeout_ms=20000, wait_ms=200)
        ends[1].shutdown(socket.SHUT_RDWR)
        return result.cancelled

    with ExitStack() as stack, ThreadPoolExecutor(16) as pool:
        connections = [stack.enter_context(solo.connection()) for _ in range(32)]
        given_up = [pool.submit(give_up, ends) for ends in connections[::2]]
        done = [pool.submit(handshake, *ends, Kind.CLIENT_ANON, timeout_ms=20000) for ends in connections[1::2]]
        assert all(future.result() for future in given_up)
        results = [result for future in done for result in future.result()]
        assert all(result.succeeded for result in results), results
    until(lambda: solo_daemon.descriptors() == before, "the sockets are closed")
