"""aioquic's TLS for comparison: a pair of `aioquic.tls.Context` with one share and one cipher suite."""

from __future__ import annotations

import time
from typing import Any

from aioquic import tls
from aioquic.buffer import Buffer
from aioquic.tls import CipherSuite, Context, Epoch, ExtensionType, Group

from tests.peers import pki


def _context(*, is_client: bool, transport_parameters: bytes, **more: Any) -> Context:
    context = Context(is_client, ["h3"], cipher_suites=[CipherSuite.AES_128_GCM_SHA256], **more)
    context._supported_groups = [Group.X25519]  # by default it makes four shares
    context.handshake_extensions = [(ExtensionType.QUIC_TRANSPORT_PARAMETERS, transport_parameters)]
    return context


def _flight(context: Context, data: bytes) -> bytes:
    """Feed data, give what comes back: all levels in one, for both sides take them in order."""
    buffers = {epoch: Buffer(capacity=16384) for epoch in (Epoch.INITIAL, Epoch.HANDSHAKE, Epoch.ONE_RTT)}
    context.handle_message(data, buffers)
    return b"".join([buffer.data for buffer in buffers.values()])


def handshake(root: pki.Authority, issued: pki.Issued) -> tuple[float, float]:
    """Seconds of CPU for the client and for the server; the client verifies the chain below `root`."""
    clock = time.process_time
    began = clock()
    client = _context(is_client=True, transport_parameters=b"x" * 60, cadata=root.pem, server_name="a.example")
    flight = _flight(client, b"")
    spent_by_client = clock() - began

    began = clock()
    server = _context(is_client=False, transport_parameters=b"y" * 60)
    server.certificate = issued.certificate
    server.certificate_chain = list(issued.intermediates)
    server.certificate_private_key = issued.private_key
    flight = _flight(server, flight)
    spent_by_server = clock() - began

    began = clock()
    flight = _flight(client, flight)
    spent_by_client += clock() - began

    began = clock()
    _flight(server, flight)
    spent_by_server += clock() - began
    assert client.state is tls.State.CLIENT_POST_HANDSHAKE
    assert server.state is tls.State.SERVER_POST_HANDSHAKE
    return spent_by_client, spent_by_server
