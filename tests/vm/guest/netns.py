"""Two machines in one: the network namespaces `client` and `server`, joined by a cable.

The kernel keeps handshake requests and their handler apart by network namespace, so each side has its own handler: one
can be tlshd and the other quic-tlshd.
"""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ADDRESSES = {"client": "10.77.0.2", "server": "10.77.0.1"}
NAMES = {"client": "client.test", "server": "server.test"}  # in their certificates, and in /etc/hosts
ANOTHER_NAME = "another.test"  # the server's too in /etc/hosts, but not in its certificate


def create() -> None:
    """Make both, and the cable; both names become known."""
    for side in ADDRESSES:
        _ip("netns", "add", side)
    _ip("link", "add", "cable", "netns", "client", "type", "veth", "peer", "name", "cable", "netns", "server")
    for side, address in ADDRESSES.items():
        _ip("-netns", side, "address", "add", f"{address}/24", "dev", "cable")
        for device in ("cable", "lo"):
            _ip("-netns", side, "link", "set", device, "up")
    with Path("/etc/hosts").open("a") as hosts:
        hosts.writelines(f"{ADDRESSES[side]} {name}\n" for side, name in NAMES.items())
        hosts.write(f"{ADDRESSES['server']} {ANOTHER_NAME}\n")


def remove() -> None:
    for side in ADDRESSES:
        _ip("netns", "delete", side)


@contextmanager
def entered(side: str) -> Iterator[None]:
    """This thread is in the namespace meanwhile: sockets that it makes belong there, processes that it starts too."""
    with open("/proc/thread-self/ns/net") as home, open(f"/run/netns/{side}") as there:
        os.setns(there.fileno(), os.CLONE_NEWNET)
        try:
            yield
        finally:
            os.setns(home.fileno(), os.CLONE_NEWNET)


def run(side: str, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run a command there; what it prints is in the result, and in the error if it fails."""
    with entered(side):
        return execute(*command, check=check)


def execute(*command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run a command; AssertionError with all that it printed if it fails."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False)
    assert not check or done.returncode == 0, f"{' '.join(command)}: {done.returncode}\n{done.stdout}{done.stderr}"
    return done


def listener() -> socket.socket:
    """A TCP socket that listens at the server's address."""
    with entered("server"):
        return socket.create_server((ADDRESSES["server"], 0))


@contextmanager
def connection() -> Iterator[tuple[socket.socket, socket.socket]]:
    """A TCP connection: the client's end and the server's."""
    with listener() as listening:
        with entered("client"):
            client = socket.create_connection(listening.getsockname(), 10)
        server, _ = listening.accept()
    with client, server:
        client.settimeout(20)
        server.settimeout(20)
        yield client, server


def _ip(*arguments: str) -> None:
    execute("ip", *arguments)
