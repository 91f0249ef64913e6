"""A QUIC socket of the kernel (IPPROTO_QUIC): CRYPTO messages by encryption level, secrets by socket option.

Source: include/uapi/linux/quic.h and net/quic/socket.c of github.com/lxin/quic, see `uapi.quic`.

What comes, comes frame by frame: recvmsg gives the bytes of one CRYPTO frame, in order, with their level in a control
message. A TLS message may span frames. Frames of a level whose secret is not installed wait in the kernel.

What goes out with MSG_MORE waits for the message after it. A ServerHello alone in its datagram is padded to 1200
bytes, a third of what a server may send to an address that it has not validated (RFC 9000 section 8.1), so what is sent
at INITIAL is kept here until the HANDSHAKE flight follows it, or until we wait for an answer (a ClientHello, a
HelloRetryRequest).

The socket is another's and will be used by it: its flags stay as they are (MSG_DONTWAIT instead of O_NONBLOCK), and
nothing is read from it once the APP secret to receive with is there, for what comes then is the application's. A
session ticket comes by an option of the socket instead, for which it is asked every now and then.

Listeners with ALPNs that share an address are told apart by the ALPN in the client's first packet, in its first CRYPTO
frame. Where a ClientHello takes two packets (an ML-KEM share does not fit one), each of them that comes before the
connection is accepted is looked at on its own, and one without ALPN goes to any of the listeners. Then there are two
connections: one that never gets a whole ClientHello and times out, and maybe one with the wrong list of protocols. So a
client's first message shall fit one packet. A server's socket has its listener's list, which `settings` gives as the
one to select from: what went astray fails with no_application_protocol, and what is not on the list is refused here too
(EACCES).
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, Protocol

from quic_tlshd.endpoint.interface import EndpointError, Settings, TransportEvent
from quic_tlshd.endpoint.packets import PacketReader
from quic_tlshd.endpoint.readiness import writable
from quic_tlshd.tls.alert import AlertDescription, PeerAlertError
from quic_tlshd.tls.events import InstallSecret, NewSession, PeerTransportParameters, Selected, SendMessage
from quic_tlshd.tls.parameters import ClientCertificate, Direction, Level
from quic_tlshd.uapi.quic import (
    MAX_SESSION_TICKET,
    MSG_QUIC_NOTIFICATION,
    QUIC_ALPN_MAX_LEN,
    QUIC_TP_EXT_MAX_LEN,
    SOL_QUIC,
    TRANSPORT_ERROR_APPLICATION,
    TRANSPORT_ERROR_CRYPTO,
    CertificateRequest,
    Config,
    ConnectionClose,
    ControlMessage,
    CryptoSecret,
    SocketOption,
)
from quic_tlshd.uapi.tls import CIPHER_SUITES, CIPHER_TYPES

_MAX_TOKEN = 4096  # of an address token, QUIC_TOKEN_MAX_LEN and more
_TICKET_INTERVAL = 0.01  # seconds from one look for a session ticket to the next
MAX_CHUNK = 16 * 1024  # of a message, for one sendmsg; the kernel cuts it into frames
_MAX_FRAME = 64 * 1024  # a CRYPTO frame is within a UDP datagram
_CONTROL_SPACE = socket.CMSG_SPACE(16)  # the largest there is: struct quic_stream_info
_LEVELS = frozenset(Level)
_ALERTS = {alert.label.encode(): alert for alert in AlertDescription}

ControlMessages = list[tuple[int, int, bytes]]


class QuicSocket(Protocol):
    """What is used of a `socket.socket`."""

    def fileno(self) -> int: ...
    def recvmsg(self, bufsize: int, ancbufsize: int, flags: int, /) -> tuple[bytes, ControlMessages, int, Any]: ...
    def sendmsg(self, buffers: Iterable[memoryview], ancdata: ControlMessages, flags: int, /) -> int: ...
    def getsockopt(self, level: int, optname: int, buflen: int, /) -> bytes: ...
    def setsockopt(self, level: int, optname: int, value: bytes, /) -> None: ...
    def close(self) -> None: ...


class QuicKernelEndpoint:
    """The socket's handshake; owns `sock`. See `endpoint.interface.Endpoint` for the methods."""

    def __init__(self, sock: QuicSocket) -> None:
        self._sock = sock
        self._packets = PacketReader(sock, self._read, lambda packet: len(packet[1]))
        self._alpn: tuple[bytes, ...] = ()  # the socket's list
        self._held: SendMessage | None = None  # what goes out together with the message after it
        self._ticket_taken: bool | None = None  # None until the handshake is over

    async def settings(self) -> Settings:
        transport_parameters = self._get(SocketOption.TRANSPORT_PARAM_EXT, QUIC_TP_EXT_MAX_LEN)
        # The kernel wants room for the list as it stores it, which is longer than the string.
        alpn = self._get(SocketOption.ALPN, 2 * QUIC_ALPN_MAX_LEN)
        self._alpn = tuple([name for name in alpn.split(b",") if name])
        try:
            config = Config.decode(self._get(SocketOption.CONFIG, Config.SIZE))
        except ValueError as error:
            raise EndpointError(errno.EPROTO, str(error)) from None
        wishes = {
            CertificateRequest.REQUEST: ClientCertificate.REQUEST,
            CertificateRequest.REQUIRE: ClientCertificate.REQUIRE,
        }
        is_server, ticket = self._is_server(), self._session_ticket()
        return Settings(
            transport_parameters=transport_parameters,
            alpn=self._alpn,
            client_certificate=wishes.get(config.certificate_request),  # type: ignore[call-overload]  # any number
            present_certificate=config.certificate_request != CertificateRequest.NO_CERTIFICATE,
            cipher_suites=_cipher_suites(config.payload_cipher_type),
            small_client_hello=True,
            tickets=1,
            ticket_key=ticket if is_server else b"",
            session=b"" if is_server else ticket,
            session_wait=0.0 if is_server else float(config.receive_session_ticket),
            session_first=True,
        )

    async def receive(self) -> tuple[Level, bytes]:
        if self._ticket_taken is not None:
            return Level.APP, await self._receive_ticket()
        await self._flush()
        try:
            return await self._packets.get()
        except EndpointError as error:
            raise self._failure("receiving", error.errno, str(error)) from None

    async def apply(self, event: TransportEvent) -> None:
        if isinstance(event, SendMessage):
            await self._flush(more=event.level is not Level.INITIAL)
            if event.level is Level.INITIAL:
                self._held = event
            else:
                await self._send(event)
        elif isinstance(event, InstallSecret):
            self._install(event)
        elif isinstance(event, PeerTransportParameters):
            self._set(SocketOption.TRANSPORT_PARAM_EXT, event.data)
        elif isinstance(event, Selected):
            self._select(event.alpn)
        elif isinstance(event, NewSession):
            self._set(SocketOption.SESSION_TICKET, event.data)

    async def finish(self) -> None:
        """Nothing more to do than that: with both APP secrets the connection is established."""
        self._ticket_taken = False

    async def fail(self, alert: AlertDescription, reason: str) -> None:
        """The socket's owner closes it. The kernel keeps the phrase for that, but as yet replaces an establishing
        socket's error code by APPLICATION_ERROR, so that `reason`, an alert's label, is how our like knows the alert.
        """
        close = ConnectionClose(TRANSPORT_ERROR_CRYPTO + alert, reason.encode())
        try:
            self._set(SocketOption.CONNECTION_CLOSE, close.encode())
        except PeerAlertError as error:  # the peer was first
            raise EndpointError(errno.ECONNRESET, str(error)) from None

    def close(self) -> None:
        self._packets.close()
        self._sock.close()

    async def _receive_ticket(self) -> bytes:
        """The first message at level APP, the only one that the kernel keeps; nothing tells when it is there."""
        while not self._ticket_taken:
            if ticket := self._session_ticket():
                self._ticket_taken = True
                return ticket
            await asyncio.sleep(_TICKET_INTERVAL)
        raise EndpointError(errno.ENODATA, "there is no more than one ticket")

    def _session_ticket(self) -> bytes:
        """Empty if there is none. On a server to be read at once: when there is an APP secret to receive with, what a
        client sends under it takes the key's place."""
        try:
            return self._sock.getsockopt(SOL_QUIC, SocketOption.SESSION_TICKET, MAX_SESSION_TICKET)
        except OSError:  # a kernel without it, or an ended connection, which shows elsewhere
            return b""

    def _is_server(self) -> bool:
        try:
            self._sock.getsockopt(SOL_QUIC, SocketOption.TOKEN, _MAX_TOKEN)
        except OSError as error:
            if error.errno == errno.EINVAL:
                return True
            raise self._failure("reading TOKEN", error.errno, error.strerror) from None
        return False

    def _read(self) -> tuple[Level, bytes]:
        try:
            data, control, flags, _ = self._sock.recvmsg(_MAX_FRAME, _CONTROL_SPACE, socket.MSG_DONTWAIT)
        except BlockingIOError:
            raise
        except OSError as error:
            raise EndpointError(error.errno or errno.EIO, error.strerror or "") from None
        if flags & MSG_QUIC_NOTIFICATION:
            raise BlockingIOError
        if not data:
            raise EndpointError(errno.ENOTCONN, "no more data")
        return _level(control), data

    async def _flush(self, *, more: bool = False) -> None:
        """Send what was kept; with `more`, the kernel waits for the next message."""
        held, self._held = self._held, None
        if held is not None:
            await self._send(held, more=more)

    async def _send(self, message: SendMessage, *, more: bool = False) -> None:
        """One flight; the kernel may take less than it is offered."""
        control = [(SOL_QUIC, int(ControlMessage.HANDSHAKE_INFO), bytes((message.level,)))]
        rest = memoryview(message.data)
        while rest:
            chunk = rest[:MAX_CHUNK]
            flags = socket.MSG_MORE if more or len(chunk) < len(rest) else 0
            try:
                rest = rest[self._sock.sendmsg([chunk], control, flags | socket.MSG_DONTWAIT) :]
            except BlockingIOError:
                await writable(self._sock.fileno())
            except OSError as error:
                raise self._failure("sending", error.errno, error.strerror) from None

    def _install(self, event: InstallSecret) -> None:
        if event.level is Level.APP and event.direction is Direction.RECEIVE:
            self._packets.close()
        cipher_type = CIPHER_TYPES[event.cipher_suite]
        secret = CryptoSecret(event.direction is Direction.SEND, event.level, cipher_type, event.secret)
        self._set(SocketOption.CRYPTO_SECRET, secret.encode())

    def _select(self, alpn: bytes | None) -> None:
        """Leave the selected protocol as the only one on the socket's list, for its owner to read."""
        if self._alpn and alpn not in self._alpn:
            what = "no protocol" if alpn is None else f"the protocol {alpn!r}"
            raise EndpointError(errno.EACCES, f"{what} was selected, the socket is for {b','.join(self._alpn)!r}")
        if alpn is None:
            return
        if b"," in alpn or alpn.startswith(b" "):
            raise EndpointError(errno.EINVAL, f"the kernel has no way to write the protocol {alpn!r}")
        self._set(SocketOption.ALPN, alpn)

    def _get(self, option: SocketOption, size: int) -> bytes:
        try:
            return self._sock.getsockopt(SOL_QUIC, option, size)
        except OSError as error:
            raise self._failure(f"reading {option.name}", error.errno, error.strerror) from None

    def _set(self, option: SocketOption, value: bytes) -> None:
        try:
            self._sock.setsockopt(SOL_QUIC, option, value)
        except OSError as error:
            raise self._failure(f"setting {option.name}", error.errno, error.strerror) from None

    def _failure(self, what: str, number: int | None, reason: str | None) -> EndpointError | PeerAlertError:
        """What an error means: on a socket whose connection has ended, any call may fail with about any number, and
        CONNECTION_CLOSE says why."""
        close = ConnectionClose(0)
        with suppress(OSError, ValueError):
            close = ConnectionClose.decode(
                self._sock.getsockopt(SOL_QUIC, SocketOption.CONNECTION_CLOSE, ConnectionClose.SIZE)
            )
        if 0 <= close.errcode - TRANSPORT_ERROR_CRYPTO <= 0xFF:
            return PeerAlertError(close.errcode - TRANSPORT_ERROR_CRYPTO)
        if close.errcode == TRANSPORT_ERROR_APPLICATION and close.phrase in _ALERTS:  # see `fail`
            return PeerAlertError(_ALERTS[close.phrase])
        if close.errcode or number in (errno.ENOTCONN, errno.EPIPE):
            phrase = f" ({close.phrase.decode(errors='replace')!r})" if close.phrase else ""
            reason = f"the connection was closed with QUIC error {close.errcode:#04x}{phrase}"
            number = errno.ECONNRESET
        return EndpointError(number or errno.EIO, f"{what}: {reason}")


def _cipher_suites(payload_cipher_type: int) -> tuple[int, ...]:
    if payload_cipher_type == 0:
        return ()
    if payload_cipher_type not in CIPHER_SUITES:
        raise EndpointError(errno.EINVAL, f"the socket wants the unknown cipher type {payload_cipher_type}")
    return (CIPHER_SUITES[payload_cipher_type],)


def _level(control: ControlMessages) -> Level:
    for level, kind, value in control:
        if level == SOL_QUIC and kind == ControlMessage.HANDSHAKE_INFO and len(value) == 1 and value[0] in _LEVELS:
            return Level(value[0])
    raise EndpointError(errno.EPROTO, "data came without an encryption level")
