"""What a scenario works with: the credentials of both sides, and the handlers that run."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.vm.guest import hsgen, netns
from tests.vm.guest.handlers import Handler
from tests.vm.guest.hsgen import Kind, Result


@dataclass(frozen=True)
class Credentials:
    """A root, and a certificate for each side, in the form that both handlers' configuration has."""

    directory: Path

    def config(self) -> dict[str, dict[str, str]]:
        return {f"authenticate.{side}": self._section(side) for side in netns.NAMES}

    def _section(self, side: str) -> dict[str, str]:
        files = {"truststore": "root.pem", "certificate": f"{side}.pem", "private_key": f"{side}.key"}
        return {f"x509.{key}": str(self.directory / name) for key, name in files.items()}


@dataclass(frozen=True)
class Handlers:
    """Who answers the kernel on each side."""

    client: Handler
    server: Handler

    def __iter__(self) -> Iterator[Handler]:
        return iter((self.client, self.server))


def handshake(
    client: socket.socket,
    server: socket.socket,
    kind: Kind,
    peername: str = netns.NAMES["server"],
    timeout_ms: int = 0,
    *,
    peerids: tuple[int, ...] = (),
    keyring: int = 0,
) -> tuple[Result, Result]:
    """Both sides' requests at once, on the two ends of a connection: the client's result and the server's.

    kind, peername, peerids: the client's.
    """
    with ThreadPoolExecutor(2) as pool:
        if kind is Kind.CLIENT_PSK:
            server_arguments, server_peerids = (server.fileno(), Kind.SERVER_PSK), (0,)
        else:
            server_arguments, server_peerids = (server.fileno(), Kind.SERVER_X509), ()
        theirs = pool.submit(
            hsgen.run, *server_arguments, timeout_ms=timeout_ms, peerids=server_peerids, keyring=keyring
        )
        ours = pool.submit(
            hsgen.run, client.fileno(), kind, peername, timeout_ms=timeout_ms, peerids=peerids, keyring=keyring
        )
        return ours.result(), theirs.result()


def exchange(client: socket.socket, server: socket.socket) -> None:
    """Plain reads and writes in both directions, more than a record each, and twice: the sequence numbers must fit."""
    data = bytes(range(256)) * 200
    for _ in range(2):
        for sender, receiver in ((client, server), (server, client)):
            sender.sendall(data)
            received = bytearray()
            while len(received) < len(data):
                part = receiver.recv(len(data))
                assert part, f"the connection ended after {len(received)} bytes"
                received += part
            assert received == data
