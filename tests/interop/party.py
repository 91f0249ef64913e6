"""One side of a handshake over TCP: our engine on a TcpEndpoint, with TLS in user space where the kernel's would be."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from datetime import UTC, datetime

from quic_tlshd.endpoint.tcp_ktls import TcpEndpoint
from quic_tlshd.policy.registry import TrustAnchors
from quic_tlshd.policy.trust import TrustStore
from quic_tlshd.status import alert_of
from quic_tlshd.tls.alert import PeerError
from quic_tlshd.tls.client import client_handshake
from quic_tlshd.tls.engine import Engine
from quic_tlshd.tls.events import Complete, FindPsk, SealTickets, Sign
from quic_tlshd.tls.iana import CipherSuite, NamedGroup
from quic_tlshd.tls.parameters import (
    DEFAULT_CIPHER_SUITES,
    DEFAULT_GROUPS,
    CertificateChain,
    ClientCertificate,
    ClientParameters,
    ServerChoice,
    ServerParameters,
    VerifyChain,
)
from quic_tlshd.tls.protection import Protection
from quic_tlshd.tls.record import HEADER, ContentType
from quic_tlshd.tls.server import server_handshake
from quic_tlshd.tls.signature import certificate_verify_content, schemes_of, sign
from quic_tlshd.worker.questions import answer_with
from tests.peers import pki

TICKET_SECRET = b"ticket key" * 8
TIMEOUT = 20.0
NAME = "a.example"


class UserspaceTls:
    """What the kernel does after the handshake. It is a `Continuation`, and then the connection.

    send, receive: as they were installed. tickets: how many post-handshake messages came between the data.
    """

    def __init__(self, sock: socket.socket, cipher_suites: tuple[int, ...] = ()) -> None:
        self.sock = sock
        self.send: Protection | None = None
        self.receive: Protection | None = None
        self.send_limit = 0
        self.tickets = 0
        self._cipher_suites = cipher_suites

    def prepare(self, _sock: socket.socket) -> tuple[int, ...]:
        return self._cipher_suites

    def limits_records(self, _sock: socket.socket) -> bool:
        return True

    def install(self, _sock: socket.socket, send: Protection, receive: Protection, send_limit: int) -> None:
        self.send, self.receive, self.send_limit = send, receive, send_limit

    async def write(self, data: bytes) -> None:
        assert self.send is not None
        self.sock.setblocking(False)
        record = self.send.seal(ContentType.APPLICATION_DATA, data)
        await asyncio.get_running_loop().sock_sendall(self.sock, record)

    async def read(self) -> bytes:
        """The next record's data, b"" when the peer closes."""
        assert self.receive is not None
        self.sock.setblocking(False)
        while True:
            header = await self._read(HEADER)
            body = await self._read(int.from_bytes(header[3:], "big"))
            content_type, content = self.receive.open(header, body)
            if content_type == ContentType.APPLICATION_DATA:
                return content
            if content_type != ContentType.HANDSHAKE:
                return b""
            self.tickets += 1

    async def _read(self, size: int) -> bytes:
        data = b""
        async with asyncio.timeout(TIMEOUT):
            while len(data) < size:
                part = await asyncio.get_running_loop().sock_recv(self.sock, size - len(data))
                assert part, "the peer closed without close_notify"
                data += part
        return data


def verifier(root: pki.Authority, name: str | None = NAME) -> VerifyChain:
    """Verifies as the daemon does: a server of that name, or a client if there is none."""
    store = TrustStore(TrustAnchors("the root", (root.der,)))
    if name is None:
        return lambda chain, _: store.verify_client(chain, datetime.now(UTC))
    return lambda chain, responses: store.verify_server(chain, name, datetime.now(UTC), responses)


def certificates(issued: pki.Issued | None) -> tuple[CertificateChain, ...]:
    if issued is None:
        return ()
    return (CertificateChain("mine", issued.chain, schemes_of(issued.private_key.public_key())),)


def server_parameters(
    issued: pki.Issued,
    *,
    alpn: bytes | None = None,
    clients: pki.Authority | None = None,
    cipher_suites: tuple[CipherSuite, ...] = DEFAULT_CIPHER_SUITES,
    groups: tuple[NamedGroup, ...] = DEFAULT_GROUPS,
) -> ServerParameters:
    """clients: the root of the client certificates that are required."""
    choice = ServerChoice(
        "test",
        alpn,
        certificates(issued),
        ClientCertificate.NONE if clients is None else ClientCertificate.REQUIRE,
        None if clients is None else verifier(clients, None),
        cipher_suites,
        groups,
    )
    return ServerParameters(lambda _name, _alpn: choice)


def client_parameters(
    root: pki.Authority,
    *,
    issued: pki.Issued | None = None,
    alpn: tuple[bytes, ...] = (),
    cipher_suites: tuple[CipherSuite, ...] = DEFAULT_CIPHER_SUITES,
    groups: tuple[NamedGroup, ...] = DEFAULT_GROUPS,
    key_shares: tuple[NamedGroup, ...] = (NamedGroup.X25519,),
    compatibility_mode: bool = True,
) -> ClientParameters:
    return ClientParameters(
        "test",
        verifier(root),
        NAME,
        alpn,
        certificates(issued),
        None,
        cipher_suites,
        groups,
        key_shares,
        compatibility_mode,
    )


async def secure(
    connection: UserspaceTls,
    parameters: ServerParameters | ClientParameters,
    issued: pki.Issued | None = None,
    during: Callable[[], None] = lambda: None,
) -> Complete:
    """Do the handshake on the connection's socket, which stays open, as a worker does.

    during: called whenever an answer is waited for."""
    is_server = isinstance(parameters, ServerParameters)
    handshake = server_handshake(parameters) if is_server else client_handshake(parameters)
    endpoint = TcpEndpoint(connection.sock.dup(), connection)
    try:
        async with asyncio.timeout(TIMEOUT):
            await endpoint.settings()
            engine = Engine(handshake)
            events = engine.start()
            while True:
                for event in events:
                    if isinstance(event, Complete):
                        await endpoint.finish()
                        return event
                    if isinstance(event, Sign):
                        assert issued is not None
                        content = certificate_verify_content(event.transcript_hash, server=is_server)
                        events = engine.answer(sign(issued.private_key, event.scheme, content))
                        break
                    if isinstance(event, FindPsk | SealTickets):
                        events = engine.answer(answer_with(TICKET_SECRET, event))
                        break
                    await endpoint.apply(event)
                else:
                    during()
                    events = engine.receive(*await endpoint.receive())
    except PeerError as error:
        alert = alert_of(error)
        assert alert is not None
        await endpoint.fail(alert, alert.label)
        raise
    finally:
        endpoint.close()
