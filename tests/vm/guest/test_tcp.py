"""TCP sockets whose consumer is in the kernel: the handshake is the handlers', and then TLS is the kernel's own."""

from __future__ import annotations

import socket

from tests.vm.guest import netns
from tests.vm.guest.conftest import Handlers
from tests.vm.guest.hsgen import Kind


def exchange(client: socket.socket, server: socket.socket) -> None:
    """Plain reads and writes in both directions, more than a record each, and twice: rec_seq must go on."""
    for _ in range(2):
        for sender, receiver in ((client, server), (server, client)):
            data = bytes(range(256)) * 200
            sender.sendall(data)
            received = bytearray()
            while len(received) < len(data):
                received += receiver.recv(len(data))
            assert received == data


def test_server_certificate(pair: Handlers) -> None:
    """The client shows no certificate and verifies the server's."""
    with netns.connection() as (client, server):
        kinds = Kind.CLIENT_ANON, Kind.SERVER_X509
        results = pair.handshake(kinds, (client.fileno(), server.fileno()))
        assert all(result.succeeded for result in results), f"{results}\n{pair.report()}"
        exchange(client, server)
