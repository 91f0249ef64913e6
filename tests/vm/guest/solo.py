"""One quic-tlshd in a network namespace of its own, whose connections are over the loopback device: for what concerns
the daemon alone, whoever the peer is. It does not meet the handlers of the other scenarios."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.peers.pki import Authority
from tests.vm.guest import netns
from tests.vm.guest.handlers import QuicTlshd

NAMESPACE = "solo"
ADDRESS = "127.0.0.1"
SERVER_NAME = "server.test"
SIDES = ("client", "server")


class Solo(QuicTlshd):
    """The daemon; client and server of a connection are both its. server: what that shows, below two intermediates."""

    def __init__(self, directory: Path) -> None:
        root = Authority("solo")
        root.write(directory / "root.pem")
        self.server = root.intermediate("one").intermediate("two").issue((SERVER_NAME, ADDRESS))
        self.server.write(directory, "server")
        root.issue(("client.test",), usage="client").write(directory, "client")
        super().__init__(NAMESPACE, directory, {f"authenticate.{side}": _x509(directory, side) for side in SIDES})

    @property
    def pids(self) -> tuple[int, ...]:
        """Of the monitor and its workers."""
        return (self.daemon.pid, *self.daemon.children)

    def descriptors(self) -> list[int]:
        """How many the monitor and its workers have."""
        return [len(os.listdir(f"/proc/{pid}/fd")) for pid in self.pids]


def _x509(directory: Path, side: str) -> dict[str, str]:
    files = {"truststore": "root.pem", "certificate": f"{side}.pem", "private_key": f"{side}.key"}
    return {f"x509.{key}": str(directory / name) for key, name in files.items()}


@contextmanager
def running(directory: Path) -> Iterator[Solo]:
    netns.execute("ip", "netns", "add", NAMESPACE)
    try:
        netns.execute("ip", "-netns", NAMESPACE, "link", "set", "lo", "up")
        handler = Solo(directory)
        try:
            handler.start()
            yield handler
        finally:
            handler.stop()
    finally:
        netns.execute("ip", "netns", "delete", NAMESPACE)


def new_socket(family: int = socket.AF_INET, kind: int = socket.SOCK_STREAM) -> socket.socket:
    """A socket for which the daemon gets the requests."""
    with netns.entered(NAMESPACE):
        return socket.socket(family, kind)


@contextmanager
def connection(address: str = ADDRESS) -> Iterator[tuple[socket.socket, socket.socket]]:
    """A TCP connection to that address: the client's end and the server's."""
    with netns.entered(NAMESPACE):
        listener = socket.create_server((address, 0))
        client = socket.socket()
    with listener, client:
        client.connect(listener.getsockname())
        server, _ = listener.accept()
        with server:
            yield client, server
