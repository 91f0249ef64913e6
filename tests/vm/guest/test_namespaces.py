"""One daemon for the kernel's upcalls of several network namespaces: [netns].

It runs in the namespace `home`. Each connection here stays within one namespace, over its loopback device.
"""

from __future__ import annotations

import os
import signal
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.vm.guest import netns
from tests.vm.guest.handlers import QuicTlshd, genetlink_listeners, until
from tests.vm.guest.hsgen import Kind
from tests.vm.guest.scenario import Credentials, handshake


@contextmanager
def namespace(name: str) -> Iterator[None]:
    netns.execute("ip", "netns", "add", name)
    try:
        netns.execute("ip", "-netns", name, "link", "set", "lo", "up")
        yield
    finally:
        netns.execute("ip", "netns", "delete", name, check=False)


@pytest.fixture
def serving(credentials: Credentials) -> Iterator[Callable[[str], QuicTlshd]]:
    """Start a daemon in `home` that serves the namespaces `names` too; called again, it loads them anew."""
    with tempfile.TemporaryDirectory(prefix="namespaces-") as directory, namespace("home"):
        started: list[QuicTlshd] = []

        def serve(names: str) -> QuicTlshd:
            # The constructor writes the configuration.
            handler = QuicTlshd("home", Path(directory), {**credentials.config(), "netns": {"names": names}})
            if started:
                os.kill(started[0].daemon.pid, signal.SIGHUP)
                started[0].daemon.wait_for_log("reloaded")
                return started[0]
            started.append(handler)
            handler.start()
            return handler

        yield serve
        for handler in started:
            handler.stop()


def shake_hands(name: str) -> None:
    """Both ends of a connection in that namespace ask for a handshake, and get one."""
    with netns.entered(name):
        listener = socket.create_server(("127.0.0.1", 0))
    with listener:
        with netns.entered(name):
            client = socket.create_connection(listener.getsockname(), 10)
        server, _ = listener.accept()
    with client, server:
        results = handshake(client, server, Kind.CLIENT_ANON)
    assert all(result.succeeded for result in results), results


def test_two_namespaces_and_our_own(serving: Callable[[str], QuicTlshd]) -> None:
    with namespace("blue"), namespace("red"):
        daemon = serving("blue;red").daemon
        for name in ("blue", "red", "home"):
            shake_hands(name)
        for name in ("blue", "red"):
            both = daemon.wait_for_log(f"in network namespace {name}) done", 1)  # the client, whose name stands before
            both += daemon.wait_for_log(f"in network namespace {name} done", 1)
            assert ["as client" in line for line in both] == [True, False], both
        assert len([line for line in daemon.log() if " done: " in line]) == 6


def test_a_namespace_that_comes_and_goes(serving: Callable[[str], QuicTlshd]) -> None:
    """It is served within moments of its making, and nothing of the daemon keeps it alive when it is deleted."""
    daemon = serving("green").daemon
    daemon.wait_for_log("network namespace green is not served: there is none yet")
    with namespace("green"):
        until(lambda: genetlink_listeners("green") > 0, "green is served")
        shake_hands("green")
        # A device whose other end is gone when the namespace is.
        netns.execute("ip", "link", "add", "near", "type", "veth", "peer", "name", "far", "netns", "green")
        netns.execute("ip", "netns", "delete", "green")
        until(lambda: not Path("/sys/class/net/near").exists(), "the namespace green is no more")
    daemon.wait_for_log("network namespace green is served no longer")
    with namespace("green"):
        until(lambda: genetlink_listeners("green") > 0, "green is served again")
        shake_hands("green")


def test_reload_and_all(serving: Callable[[str], QuicTlshd]) -> None:
    """Without a restart: one more, then all."""
    with namespace("blue"), namespace("red"):
        daemon = serving("blue").daemon
        assert genetlink_listeners("red") == 0
        serving("red")
        until(lambda: genetlink_listeners("red") == 1, "red is served")
        assert genetlink_listeners("blue") == 0
        shake_hands("red")
        serving("all")
        until(lambda: genetlink_listeners("blue") == 1, "blue is served")
        shake_hands("blue")
        assert genetlink_listeners("home") == 1
        with namespace("green"):
            until(lambda: genetlink_listeners("green") == 1, "green is served")
            shake_hands("green")
        daemon.wait_for_log("network namespace green is served no longer")
