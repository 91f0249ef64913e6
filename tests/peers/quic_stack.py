"""A QUIC stack that is nothing but its handshake: what one side is told goes to the other, with no packets between."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass, field

from netlink.handshake import Accept, AuthMode, Done, MessageType
from netlink.upcall import UpcallConnection
from quic_tlshd.endpoint import userspace_protocol as userspace
from quic_tlshd.endpoint.userspace_protocol import Message, encode_settings
from quic_tlshd.tls.parameters import Level

PEER = "192.0.2.1 port 4711"  # whom the log shall name
TIMEOUT = 20.0  # seconds, for whatever one waits for


@dataclass
class Stack:
    """One side. secrets: by (message type, level); sent: CRYPTO; the rest as the daemon gave it, or gets it."""

    transport_parameters: bytes
    certificate_request: int = 0
    peer: Stack | None = None
    secrets: dict[tuple[int, Level], tuple[int, bytes]] = field(default_factory=dict)
    peer_transport_parameters: bytes | None = None
    alpn: bytes | None = None
    alert: int | None = None
    session: bytes = b""
    session_wait: int = 0
    wants_early_data: bool = False
    sessions: asyncio.Queue[bytes] = field(default_factory=asyncio.Queue)
    early_data: list[int] = field(default_factory=list)
    sent: list[Message] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.sock, self.daemons = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.sock.setblocking(False)
        settings = encode_settings(
            self.transport_parameters,
            self.certificate_request,
            peer_address=PEER,
            session=self.session,
            session_wait=self.session_wait,
            early_data=self.wants_early_data,
        )
        self.sock.send(Message(userspace.MessageType.SETTINGS, body=settings).encode())

    async def pump(self) -> None:
        """Until the daemon closes its end: take what it sends, carry CRYPTO and ALERT to the other side."""
        loop = asyncio.get_running_loop()
        while packet := await loop.sock_recv(self.sock, userspace.MAX_PACKET):
            message = Message.decode(packet)
            match message.type:
                case userspace.MessageType.CRYPTO:
                    self.sent.append(message)
                    await self._carry(message)
                case userspace.MessageType.ALERT:
                    self.alert = message.argument
                    await self._carry(Message(userspace.MessageType.ALERT, argument=message.argument))
                case userspace.MessageType.SEND_SECRET | userspace.MessageType.RECEIVE_SECRET:
                    self.secrets[message.type, message.level] = (message.argument, message.body)
                case userspace.MessageType.PEER_TRANSPORT_PARAMETERS:
                    self.peer_transport_parameters = message.body
                case userspace.MessageType.SELECTED_ALPN:
                    self.alpn = message.body
                case userspace.MessageType.SESSION:
                    self.sessions.put_nowait(message.body)
                case userspace.MessageType.EARLY_DATA:
                    self.early_data.append(message.argument)

    async def _carry(self, message: Message) -> None:
        assert self.peer is not None
        try:
            await asyncio.get_running_loop().sock_sendall(self.peer.sock, message.encode())
        except OSError:
            return  # the other side has gone

    def close(self) -> None:
        self.sock.close()
        self.daemons.close()


@dataclass(frozen=True)
class Result:
    client: Done
    server: Done
    client_stack: Stack
    server_stack: Stack


async def handshake(
    client_daemon: UpcallConnection,
    server_daemon: UpcallConnection,
    *,
    alpn: tuple[bytes, ...] = (b"h3",),
    server_alpn: tuple[bytes, ...] = (),
    peername: str = "localhost",
    auth_mode: AuthMode = AuthMode.UNAUTH,
    certificate_request: int = 0,
    session: bytes = b"",
    session_wait: int = 0,
    early_data: bool = False,
    server_transport_parameters: bytes = b"server parameters",
) -> Result:
    """A handshake between two upcalls, which may be one daemon's. With a session_wait the client's session is waited
    for too, which is in its `sessions`."""
    client = Stack(b"client parameters", session=session, session_wait=session_wait, wants_early_data=early_data)
    server = Stack(server_transport_parameters, certificate_request, wants_early_data=early_data)
    client.peer, server.peer = server, client
    pumps = [asyncio.create_task(stack.pump()) for stack in (client, server)]
    wanted = [
        client_daemon.handshake(
            Accept(message_type=MessageType.CLIENTHELLO, auth_mode=auth_mode, peername=peername, alpn=alpn),
            client.daemons,
        ),
        server_daemon.handshake(
            Accept(message_type=MessageType.SERVERHELLO, auth_mode=AuthMode.X509, alpn=server_alpn), server.daemons
        ),
    ]
    try:
        async with asyncio.timeout(TIMEOUT):
            done = await asyncio.gather(*wanted)
            if session_wait and not any(end.status for end in done):
                client.sessions.put_nowait(await client.sessions.get())
            for stack in (client, server):  # what the daemon sent is there by now
                stack.sock.shutdown(socket.SHUT_RD)
            await asyncio.gather(*pumps)
        return Result(done[0], done[1], client, server)
    finally:
        for pump in pumps:
            pump.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)
        client.close()
        server.close()
