"""aioquic connections whose TLS is done by the daemon: the process needs no certificate, private key or TLS code.

    async with connect("server.example", 4433, configuration=QuicConfiguration(alpn_protocols=["h3"])) as protocol: ...
    server = await serve("::", 4433, configuration=QuicConfiguration(is_client=False, alpn_protocols=["h3", "smb"]))

`serve` and `connect` take the arguments of their namesakes in aioquic.asyncio, except those for session tickets (the
daemon resumes nothing yet), and do what those do. `Connection` is for programs that own their UDP socket.
`connection.handshake` has the daemon's DONE (entry, server name, peer's chain) when HandshakeCompleted is seen.

Relied on of aioquic beyond its documentation, with the versions below:

- QuicConnection._initialize and _handle_crypto_frame are overridden, _crypto_streams gets a stream of ours,
  _close_event is read and _version_negotiated_compatible is set;
- QuicConnectionProtocol._process_events is called, and its _quic and QuicServer._transport are read;
- QuicConnection._initialize, QuicServer.datagram_received and the functions serve and connect run with our classes in
  the place of those that they name (quic_tlshd/adapters/rebind.py); aioquic's modules are not changed.
"""

# ruff: noqa: E402  # the version comes first: another aioquic would fail in stranger ways
from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from importlib.metadata import version
from typing import Any

OLDEST, NEWEST = "1.3", "1.7"


def _minor(release: str) -> tuple[int, ...]:
    return tuple(map(int, release.split(".")[:2]))


if not _minor(OLDEST) <= _minor(version("aioquic")) <= _minor(NEWEST):
    raise ImportError(
        f"the aioquic adapter is made for aioquic {OLDEST} to {NEWEST}, and {version('aioquic')} is installed"
    )

from aioquic.asyncio import client, server
from aioquic.asyncio.protocol import QuicConnectionProtocol, QuicStreamHandler
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import NetworkAddress, QuicTokenHandler

from netlink.upcall import DEFAULT_PATH
from quic_tlshd.adapters.aioquic_configuration import check
from quic_tlshd.adapters.aioquic_connection import HANDSHAKE_TIMEOUT, Connection
from quic_tlshd.adapters.rebind import rebind
from quic_tlshd.adapters.remote import Daemon
from quic_tlshd.tls.parameters import ClientCertificate

__all__ = ["Connection", "Daemon", "Server", "connect", "connection_of", "serve"]

CreateProtocol = Callable[..., QuicConnectionProtocol]


def connection_of(protocol: QuicConnectionProtocol) -> Connection:
    """The connection of a protocol that `serve` or `connect` made."""
    connection = protocol._quic
    assert isinstance(connection, Connection)
    return connection


class Server(server.QuicServer):
    """A QuicServer that makes `Connection`s, each with `options`."""

    def __init__(self, *, create_protocol: CreateProtocol, options: dict[str, Any], **rest: Any) -> None:
        super().__init__(create_protocol=_waking(create_protocol), **rest)
        self._receive = rebind(server.QuicServer.datagram_received, QuicConnection=partial(Connection, **options))

    @property
    def port(self) -> int:
        """The UDP port; for those who asked for port 0."""
        assert self._transport is not None
        return int(self._transport.get_extra_info("sockname")[1])

    def datagram_received(self, data: bytes | str, addr: NetworkAddress) -> None:
        self._receive(self, data, addr)


async def serve(
    host: str,
    port: int,
    *,
    configuration: QuicConfiguration,
    create_protocol: CreateProtocol = QuicConnectionProtocol,
    stream_handler: QuicStreamHandler | None = None,
    retry: bool = False,
    daemon: Daemon | str = DEFAULT_PATH,
    client_certificate: ClientCertificate | None = None,
    handshake_timeout: float = HANDSHAKE_TIMEOUT,
) -> Server:
    """aioquic.asyncio.serve with the handshakes done by the daemon.

    configuration.alpn_protocols: what is served here; None for all that the daemon's registry has.
    daemon: the path of its upcall socket, or what several servers and clients share.
    client_certificate: whether clients must show one, None to leave it to the registry entry.
    handshake_timeout: seconds.
    ValueError if the configuration has a certificate, a key or a trust store.
    """
    options: dict[str, Any] = {
        "daemon": _daemon(daemon),
        "client_certificate": client_certificate,
        "handshake_timeout": handshake_timeout,
    }
    check(configuration)
    start: Any = rebind(server.serve, QuicServer=partial(Server, options=options))
    made: Server = await start(
        host,
        port,
        configuration=configuration,
        create_protocol=create_protocol,
        retry=retry,
        stream_handler=stream_handler,
    )
    return made


@asynccontextmanager
async def connect(
    host: str,
    port: int,
    *,
    configuration: QuicConfiguration | None = None,
    create_protocol: CreateProtocol = QuicConnectionProtocol,
    stream_handler: QuicStreamHandler | None = None,
    token_handler: QuicTokenHandler | None = None,
    wait_connected: bool = True,
    local_port: int = 0,
    daemon: Daemon | str = DEFAULT_PATH,
    present_certificate: bool = False,
    handshake_timeout: float = HANDSHAKE_TIMEOUT,
) -> AsyncGenerator[QuicConnectionProtocol, None]:
    """aioquic.asyncio.connect with the handshake done by the daemon, which also decides whom to trust.

    configuration.server_name: the name to send and to verify, `host` if it is None.
    daemon, handshake_timeout: see `serve`.
    present_certificate: let the daemon show a certificate if the server asks for one.
    ConnectionError with the reason if the handshake fails; ValueError as in `serve`.
    """
    connections: list[Connection] = []
    configuration = configuration or QuicConfiguration()
    options: dict[str, Any] = {
        "daemon": _daemon(daemon),
        "present_certificate": present_certificate,
        "handshake_timeout": handshake_timeout,
    }

    def make(**rest: Any) -> Connection:
        connections.append(Connection(**options, **rest))
        return connections[0]

    async with AsyncExitStack() as stack:
        try:
            protocol = await stack.enter_async_context(
                asynccontextmanager(rebind(_connect, QuicConnection=make))(
                    host,
                    port,
                    configuration=configuration,
                    create_protocol=_waking(create_protocol),
                    stream_handler=stream_handler,
                    token_handler=token_handler,
                    wait_connected=wait_connected,
                    local_port=local_port,
                )
            )
        except ConnectionError as error:
            raise ConnectionError(connections[0].failure) from error
        yield protocol


_connect = client.connect.__wrapped__  # type: ignore[attr-defined]  # what asynccontextmanager was applied to


def _daemon(daemon: Daemon | str) -> Daemon:
    return Daemon(daemon) if isinstance(daemon, str) else daemon


def _waking(create_protocol: CreateProtocol) -> CreateProtocol:
    """`create_protocol`, whose protocol takes its connection's events also when they come from the daemon."""

    def create(connection: Connection, **rest: Any) -> QuicConnectionProtocol:
        protocol = create_protocol(connection, **rest)

        def wake() -> None:
            protocol._process_events()
            protocol.transmit()

        connection.wake = wake
        return protocol

    return create
