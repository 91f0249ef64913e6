"""One quic-tlshd in a network namespace of its own, whose connections are over the loopback device: for what concerns
the daemon alone, whoever the peer is. It does not meet the handlers of the other scenarios."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.vm.guest import netns
from tests.vm.guest.handlers import QuicTlshd

NAME = "solo"
ADDRESS = "127.0.0.1"


class Solo(QuicTlshd):
    """The daemon; client and server of a connection are both its."""

    def __init__(self, directory: Path, config: Mapping[str, Mapping[str, str]]) -> None:
        super().__init__(NAME, directory, config)

    @property
    def pids(self) -> tuple[int, ...]:
        """Of the monitor and its workers."""
        return (self.daemon.pid, *self.daemon.children)

    def descriptors(self) -> list[int]:
        """How many the monitor and its workers have."""
        return [len(os.listdir(f"/proc/{pid}/fd")) for pid in self.pids]


@contextmanager
def running(directory: Path, config: Mapping[str, Mapping[str, str]]) -> Iterator[Solo]:
    netns.execute("ip", "netns", "add", NAME)
    try:
        netns.execute("ip", "-netns", NAME, "link", "set", "lo", "up")
        handler = Solo(directory, config)
        try:
            handler.start()
            yield handler
        finally:
            handler.stop()
    finally:
        netns.execute("ip", "netns", "delete", NAME)


def new_socket(family: int = socket.AF_INET, kind: int = socket.SOCK_STREAM) -> socket.socket:
    """A socket for which the daemon gets the requests."""
    with netns.entered(NAME):
        return socket.socket(family, kind)


@contextmanager
def connection(address: str = ADDRESS) -> Iterator[tuple[socket.socket, socket.socket]]:
    """A TCP connection to that address: the client's end and the server's."""
    with netns.entered(NAME):
        listener = socket.create_server((address, 0))
        client = socket.socket()
    with listener, client:
        client.connect(listener.getsockname())
        server, _ = listener.accept()
        with server:
            yield client, server
