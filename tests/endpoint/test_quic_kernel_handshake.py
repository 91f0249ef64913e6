"""Whole handshakes between two endpoints on kernel QUIC sockets."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator

import pytest

from quic_tlshd.endpoint.quic_kernel import QuicKernelEndpoint
from quic_tlshd.tls.events import Complete
from quic_tlshd.tls.iana import CipherSuite, NamedGroup
from tests.endpoint import driver
from tests.peers.quic_socket import APP, HANDSHAKE, INITIAL, FakeQuicSocket, Pair, Split


def in_pieces(size: int) -> Split:
    def split(data: bytes) -> Iterator[bytes]:
        return (data[at : at + size] for at in range(0, len(data), size))

    return split


async def handshake(
    client: FakeQuicSocket, server: FakeQuicSocket, groups: tuple[NamedGroup, ...] = (NamedGroup.X25519,)
) -> tuple[Complete, Complete]:
    """The client offers a share of X25519 only, the server takes `groups`."""
    with Pair(client, server):
        ends = QuicKernelEndpoint(client), QuicKernelEndpoint(server)
        async with asyncio.timeout(10):
            ours, theirs = await asyncio.gather(driver.client(ends[0]), driver.server(ends[1], groups=groups))
        for end in ends:
            end.close()
    return ours, theirs


@pytest.mark.parametrize("size", [1, 3, 100, 1100, 1 << 16])
async def test_frames_may_split_messages_anywhere(size: int) -> None:
    client = FakeQuicSocket(server=False, alpn="h3", split=in_pieces(size), transport_parameters=b"\x01\x01c")
    server = FakeQuicSocket(server=True, alpn="h3", split=in_pieces(size), transport_parameters=b"\x01\x01s")
    ours, theirs = await handshake(client, server)
    assert client.state == server.state == "established"
    assert (client.peer_transport_parameters, server.peer_transport_parameters) == (b"\x01\x01s", b"\x01\x01c")
    assert {(level, not send): secret for (level, send), secret in client.secrets.items()} == server.secrets
    assert ours.alpn == theirs.alpn == b"h3"
    assert ours.peer_chain == driver.identity("server").chain


async def test_a_kernel_that_takes_little_at_a_time() -> None:
    ours, _ = await handshake(
        FakeQuicSocket(server=False, alpn="h3", most=7), FakeQuicSocket(server=True, alpn="h3", most=7)
    )
    assert ours.peer_chain == driver.identity("server").chain


@pytest.mark.parametrize("suite", list(CipherSuite))
async def test_the_cipher_type_of_one_side_counts(suite: CipherSuite) -> None:
    cipher_type = {0x1301: 51, 0x1302: 52, 0x1303: 54, 0x1304: 53}[suite]
    client = FakeQuicSocket(server=False, alpn="h3")
    server = FakeQuicSocket(server=True, alpn="h3", cipher_type=cipher_type)
    ours, _ = await handshake(client, server)
    assert ours.cipher_suite is suite
    assert {installed for installed, _ in client.secrets.values()} == {cipher_type}
    length = 48 if suite is CipherSuite.TLS_AES_256_GCM_SHA384 else 32
    for _, secret in client.secrets.values():
        assert any(secret[:length])
        assert not any(secret[length:])


async def test_client_certificates() -> None:
    client = FakeQuicSocket(server=False, alpn="h3")
    _, theirs = await handshake(client, FakeQuicSocket(server=True, alpn="h3", certificate_request=2))
    assert theirs.peer_chain == driver.identity("client").chain
    silent = FakeQuicSocket(server=False, alpn="h3", certificate_request=3)
    _, theirs = await handshake(silent, FakeQuicSocket(server=True, alpn="h3", certificate_request=1))
    assert theirs.peer_chain == ()


async def test_the_server_hello_shares_its_datagram_with_the_rest_of_the_flight() -> None:
    client, server = FakeQuicSocket(server=False, alpn="h3"), FakeQuicSocket(server=True, alpn="h3")
    await handshake(client, server)
    assert [[level for level, _ in datagram] for datagram in server.datagrams] == [[INITIAL, HANDSHAKE]]
    assert [[level for level, _ in datagram] for datagram in client.datagrams] == [[INITIAL], [HANDSHAKE]]


async def test_a_hello_retry_request_does_not_wait_for_anything() -> None:
    client, server = FakeQuicSocket(server=False, alpn="h3"), FakeQuicSocket(server=True, alpn="h3")
    await handshake(client, server, groups=(NamedGroup.SECP256R1,))
    assert [[level for level, _ in datagram] for datagram in server.datagrams] == [[INITIAL], [INITIAL, HANDSHAKE]]


async def test_data_of_the_application_stays_in_the_socket() -> None:
    client, server = FakeQuicSocket(server=False, alpn="h3"), FakeQuicSocket(server=True, alpn="h3")
    with Pair(client, server):
        ends = QuicKernelEndpoint(client), QuicKernelEndpoint(server)
        async with asyncio.timeout(10):
            serving = asyncio.create_task(driver.server(ends[1]))
            connecting = asyncio.create_task(driver.client(ends[0]))
            while (APP, True) not in server.secrets:
                await asyncio.sleep(0)
            server.send_stream(b"early")  # half a round trip before the client's Finished
            await asyncio.gather(serving, connecting)
        client.send_stream(b"request")
        server.send_stream(b"greeting")
        for _ in range(5):
            await asyncio.sleep(0)
        assert server.recvmsg(1 << 16, 64, socket.MSG_DONTWAIT)[0] == b"request"
        assert client.recvmsg(1 << 16, 64, socket.MSG_DONTWAIT)[0] == b"early"
        assert client.recvmsg(1 << 16, 64, socket.MSG_DONTWAIT)[0] == b"greeting"
        for end in ends:
            end.close()
