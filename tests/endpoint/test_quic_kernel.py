"""The endpoint on kernel QUIC sockets: one case for everything that it reads, sends or refuses."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from quic_tlshd.endpoint.interface import EndpointError
from quic_tlshd.endpoint.quic_kernel import MAX_CHUNK, QuicKernelEndpoint
from quic_tlshd.tls.alert import AlertDescription, PeerAlertError
from quic_tlshd.tls.events import InstallSecret, PeerTransportParameters, Selected, SendMessage
from quic_tlshd.tls.iana import CipherSuite
from quic_tlshd.tls.parameters import ClientCertificate, Direction, Level
from tests.peers import quic_socket
from tests.peers.quic_socket import INITIAL, FakeQuicSocket, Pair

SECRET = bytes(range(32))


def install(level: Level, direction: Direction) -> InstallSecret:
    return InstallSecret(level, direction, CipherSuite.TLS_AES_128_GCM_SHA256, SECRET)


@pytest_asyncio.fixture
async def pair() -> AsyncIterator[Pair]:
    with Pair(FakeQuicSocket(server=False, alpn="smb,h3"), FakeQuicSocket(server=True, alpn="h3")) as both:
        yield both


# settings


@pytest.mark.parametrize("size", [24, 28])
async def test_settings(size: int) -> None:
    sock = FakeQuicSocket(server=True, alpn="smb,h3", cipher_type=52, certificate_request=2, config_size=size)
    with Pair(FakeQuicSocket(server=False), sock):
        settings = await QuicKernelEndpoint(sock).settings()
    assert settings.transport_parameters == sock.transport_parameters
    assert settings.alpn == (b"smb", b"h3")
    assert settings.cipher_suites == (CipherSuite.TLS_AES_256_GCM_SHA384,)
    assert settings.client_certificate is ClientCertificate.REQUIRE
    assert settings.small_client_hello


@pytest.mark.parametrize(
    ("certificate_request", "wish", "shows"),
    [
        (0, None, True),
        (1, ClientCertificate.REQUEST, True),
        (2, ClientCertificate.REQUIRE, True),
        (3, None, False),
        (200, None, True),
    ],
)
async def test_certificate_request(certificate_request: int, wish: ClientCertificate | None, shows: bool) -> None:
    sock = FakeQuicSocket(server=True, certificate_request=certificate_request)
    with Pair(FakeQuicSocket(server=False), sock):
        settings = await QuicKernelEndpoint(sock).settings()
    assert (settings.client_certificate, settings.present_certificate) == (wish, shows)
    assert (settings.alpn, settings.cipher_suites) == ((), ())


async def test_the_longest_alpn_list() -> None:
    alpn = ",".join(["a"] * 64)
    sock = FakeQuicSocket(server=True, alpn=alpn + "b")  # 128 bytes, 129 as the kernel keeps them
    with Pair(FakeQuicSocket(server=False), sock):
        assert len((await QuicKernelEndpoint(sock).settings()).alpn) == 64


async def test_settings_that_make_no_sense() -> None:
    unknown, short = FakeQuicSocket(server=True, cipher_type=99), FakeQuicSocket(server=True, config_size=20)
    with Pair(unknown, short):
        with pytest.raises(EndpointError, match="cipher type 99") as refused:
            await QuicKernelEndpoint(unknown).settings()
        assert refused.value.errno == errno.EINVAL
        with pytest.raises(EndpointError, match="20 bytes") as refused:
            await QuicKernelEndpoint(short).settings()
        assert refused.value.errno == errno.EPROTO


async def test_a_socket_that_is_past_its_handshake(pair: Pair) -> None:
    pair.client.state = "established"
    with pytest.raises(EndpointError, match="reading TRANSPORT_PARAM_EXT: Invalid argument") as refused:
        await QuicKernelEndpoint(pair.client).settings()
    assert refused.value.errno == errno.EINVAL


# sending


async def test_a_long_message_goes_out_as_one_flight(pair: Pair) -> None:
    endpoint = QuicKernelEndpoint(pair.client)
    await endpoint.apply(install(Level.HANDSHAKE, Direction.SEND))
    message = bytes(range(256)) * (3 * MAX_CHUNK // 256) + b"end"
    await endpoint.apply(SendMessage(Level.HANDSHAKE, message))
    await endpoint.apply(SendMessage(Level.HANDSHAKE, b""))
    pair.client.transmit()
    (datagram,) = pair.client.datagrams
    assert b"".join(frame for _, frame in datagram) == message
    assert max(len(frame) for _, frame in datagram) == MAX_CHUNK


async def test_a_full_socket_is_waited_for() -> None:
    client, server = FakeQuicSocket(server=False, sndbuf=1 << 15), FakeQuicSocket(server=True)
    client.peer, server.peer = server, client
    endpoint = QuicKernelEndpoint(client)
    await endpoint.apply(install(Level.HANDSHAKE, Direction.SEND))
    message = bytes(20 * MAX_CHUNK)
    sending = asyncio.create_task(endpoint.apply(SendMessage(Level.HANDSHAKE, message)))
    await asyncio.sleep(0.01)
    assert not sending.done()
    async with asyncio.timeout(10):
        while not sending.done():
            client.transmit()
            await asyncio.sleep(0)
        await sending
    client.transmit()
    assert sum(len(frame) for datagram in client.datagrams for _, frame in datagram) == len(message)
    endpoint.close()
    for sock in (client, server):
        sock.destroy()


async def test_what_the_kernel_refuses(pair: Pair) -> None:
    endpoint = QuicKernelEndpoint(pair.client)
    with pytest.raises(EndpointError, match="sending: Invalid argument") as refused:
        await endpoint.apply(SendMessage(Level.HANDSHAKE, b"no secret yet"))
    assert refused.value.errno == errno.EINVAL
    with pytest.raises(EndpointError, match="setting CRYPTO_SECRET: Invalid argument"):
        await endpoint.apply(install(Level.INITIAL, Direction.SEND))
    with pytest.raises(EndpointError, match="setting TRANSPORT_PARAM_EXT: Invalid argument"):
        await endpoint.apply(PeerTransportParameters(bytes(513)))
    with pytest.raises(EndpointError, match=r"setting TRANSPORT_PARAM_EXT: .* QUIC error 0x08") as refused:
        await endpoint.apply(PeerTransportParameters(b"\x01\x09cut"))
    assert refused.value.errno == errno.ECONNRESET


async def test_the_selected_protocol_replaces_the_list(pair: Pair) -> None:
    endpoint = QuicKernelEndpoint(pair.client)
    await endpoint.settings()
    await endpoint.apply(Selected(b"h3", None, "entry"))
    assert pair.client.alpn == [b"h3"]


@pytest.mark.parametrize("alpn", [b"ftp", None])
async def test_a_connection_that_reached_the_wrong_listener(pair: Pair, alpn: bytes | None) -> None:
    endpoint = QuicKernelEndpoint(pair.server)
    await endpoint.settings()
    with pytest.raises(EndpointError, match=r"was selected, the socket is for b'h3'") as refused:
        await endpoint.apply(Selected(alpn, None, "entry"))
    assert refused.value.errno == errno.EACCES


async def test_a_socket_without_a_list(pair: Pair) -> None:
    sock = FakeQuicSocket(server=True)
    with Pair(FakeQuicSocket(server=False), sock):
        endpoint = QuicKernelEndpoint(sock)
        await endpoint.settings()
        await endpoint.apply(Selected(None, None, "entry"))
        assert sock.alpn == []
        for name in (b"a,b", b" a"):
            with pytest.raises(EndpointError, match="no way to write"):
                await endpoint.apply(Selected(name, None, "entry"))
        await endpoint.apply(Selected(b"h3", None, "entry"))
        assert sock.alpn == [b"h3"]


# receiving


async def test_frames_come_one_by_one(pair: Pair) -> None:
    endpoint = QuicKernelEndpoint(pair.server)
    waiting = asyncio.create_task(endpoint.receive())
    await asyncio.sleep(0)
    pair.server.arrive(INITIAL, INITIAL, b"one")
    pair.server.arrive(INITIAL, INITIAL, b"two")
    assert await waiting == (Level.INITIAL, b"one")
    assert await endpoint.receive() == (Level.INITIAL, b"two")


async def test_events_of_the_owner_are_no_handshake_data(pair: Pair) -> None:
    endpoint = QuicKernelEndpoint(pair.server)
    pair.server.arrive(INITIAL, quic_socket.EVENT, b"\x04")
    pair.server.arrive(INITIAL, INITIAL, b"data")
    assert await endpoint.receive() == (Level.INITIAL, b"data")


@pytest.mark.parametrize("kind", [quic_socket.STREAM, 4, 255])
async def test_data_without_a_level(pair: Pair, kind: int) -> None:
    endpoint = QuicKernelEndpoint(pair.server)
    pair.server.arrive(INITIAL, kind, b"data")
    with pytest.raises(EndpointError, match="encryption level") as broken:
        await endpoint.receive()
    assert broken.value.errno == errno.EPROTO


async def test_a_frame_without_data(pair: Pair) -> None:
    endpoint = QuicKernelEndpoint(pair.server)
    pair.server.arrive(INITIAL, INITIAL, b"")
    with pytest.raises(EndpointError) as broken:
        await endpoint.receive()
    assert broken.value.errno == errno.ECONNRESET


# the end


async def test_fail_leaves_alert_and_phrase(pair: Pair) -> None:
    endpoint = QuicKernelEndpoint(pair.server)
    await endpoint.fail(AlertDescription.UNKNOWN_CA, "x" * 100)
    assert pair.server.connection_close == (0x100 + 48, b"x" * 63)


async def test_a_failure_that_crosses_the_peers_alert(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(*_: object) -> None:
        raise OSError(errno.EINVAL, "Invalid argument")

    pair.client.close_by_peer(0x100 + AlertDescription.UNKNOWN_CA)
    monkeypatch.setattr(pair.client, "setsockopt", refuses)
    with pytest.raises(EndpointError, match="unknown_ca") as closed:
        await QuicKernelEndpoint(pair.client).fail(AlertDescription.INTERNAL_ERROR, "internal_error")
    assert closed.value.errno == errno.ECONNRESET


async def test_what_was_kept_is_not_sent_after_a_failure(pair: Pair) -> None:
    endpoint = QuicKernelEndpoint(pair.server)
    await endpoint.apply(SendMessage(Level.INITIAL, b"ServerHello"))
    await endpoint.fail(AlertDescription.INTERNAL_ERROR, "internal_error")
    endpoint.close()
    pair.server.transmit()
    assert pair.server.datagrams == []


async def test_the_phrase_is_what_the_peer_of_a_failed_handshake_gets(pair: Pair) -> None:
    client, server = QuicKernelEndpoint(pair.client), QuicKernelEndpoint(pair.server)
    waiting = asyncio.create_task(client.receive())
    await asyncio.sleep(0)
    await server.fail(AlertDescription.UNKNOWN_CA, "unknown_ca")
    server.close()
    pair.server.shut_down()
    with pytest.raises(PeerAlertError, match="unknown_ca"):
        await waiting


async def test_a_phrase_of_somebody_elses(pair: Pair) -> None:
    pair.client.close_by_peer(quic_socket.APPLICATION_ERROR, b"unknown ca")
    with pytest.raises(EndpointError, match=r"closed with QUIC error 0x0c \('unknown ca'\)") as closed:
        await QuicKernelEndpoint(pair.client).receive()
    assert closed.value.errno == errno.ECONNRESET


@pytest.mark.parametrize("waiting", [True, False])
async def test_a_peers_alert(pair: Pair, waiting: bool) -> None:
    endpoint = QuicKernelEndpoint(pair.client)
    pair.client.arrive(INITIAL, INITIAL, b"before")
    pair.client.close_by_peer(0x100 + 116)
    assert await endpoint.receive() == (Level.INITIAL, b"before")
    with pytest.raises(PeerAlertError, match="certificate_required"):
        await (endpoint.receive() if waiting else endpoint.apply(SendMessage(Level.EARLY, b"late")))


async def test_an_end_without_a_reason(pair: Pair) -> None:
    endpoint = QuicKernelEndpoint(pair.client)
    pair.client.close_by_peer(0)
    with pytest.raises(EndpointError, match=r"QUIC error 0x00$") as closed:
        await endpoint.receive()
    assert closed.value.errno == errno.ECONNRESET
    with pytest.raises(EndpointError, match=r"QUIC error 0x00$"):
        await endpoint.apply(SendMessage(Level.HANDSHAKE, b"late"))


async def test_a_socket_that_is_no_quic_socket() -> None:
    sock, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with sock, other:
        endpoint = QuicKernelEndpoint(sock)
        with pytest.raises(EndpointError, match="reading TRANSPORT_PARAM_EXT"):
            await endpoint.settings()
        endpoint.close()
