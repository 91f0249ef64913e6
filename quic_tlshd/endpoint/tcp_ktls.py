"""A TCP socket: TLS records in user space for the handshake, then TLS in the kernel (kTLS) for its owner.

Source: RFC 8446 section 5 and appendix D.4, Documentation/networking/tls.rst, net/tls/tls_main.c.

The socket is another's and will be used by it: its flags stay as they are (MSG_DONTWAIT instead of O_NONBLOCK), Nagle's
algorithm is off only until we let go, and nothing is read beyond the record that the handshake needs. What the peer
sends right behind its Finished waits in the socket until the kernel has the keys to it.

The upper layer protocol is set before the handshake, when it is a plain TCP socket still: a kernel without TLS fails
before anything is sent, and a peer that has sent all it has to say and half-closed can't (the kernel sets it on an
ESTABLISHED socket only). The keys are installed by `finish`, after all that we send, so that what was sent and received
under the application keys before (a session ticket, say) is counted in their record sequence numbers.
"""

from __future__ import annotations

import asyncio
import errno
import select
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from typing import Protocol

from quic_tlshd.endpoint.interface import EndpointError, Settings, TransportEvent
from quic_tlshd.endpoint.readiness import readable, writable
from quic_tlshd.tls.alert import AlertDescription
from quic_tlshd.tls.events import InstallSecret, PeerRecordSizeLimit, SendMessage, SkipEarlyData
from quic_tlshd.tls.extensions import MAX_RECORD_SIZE
from quic_tlshd.tls.iana import CipherSuite
from quic_tlshd.tls.parameters import Level
from quic_tlshd.tls.protection import IV, MAX_INNER_PLAINTEXT, Protection
from quic_tlshd.tls.record import HEADER, ContentType, RecordLayer
from quic_tlshd.uapi.tls import (
    CIPHER_TYPES,
    KEY_SIZES,
    SOL_TLS,
    TCP_ULP,
    ULP_NAME,
    CipherType,
    CryptoInfo,
    SocketOption,
)

_TURN = 32  # records that one peer may have read for it before the others get their turn
_DRAIN = 16  # reads of what is thrown away when a handshake has failed
_DRAIN_SIZE = 64 * 1024


class Continuation(Protocol):
    """What protects the connection when the handshake is done. Both methods raise OSError."""

    def prepare(self, sock: socket.socket) -> tuple[int, ...]:
        """Called first, on a plain TCP socket; gives the cipher suites that there are, () for any."""
        ...

    def limits_records(self, sock: socket.socket) -> bool:
        """Whether a limit on what is sent can be kept."""
        ...

    def install(self, sock: socket.socket, send: Protection, receive: Protection, send_limit: int) -> None:
        """Protect what comes from here on. send_limit: the most bytes of a record's content and type byte."""
        ...


class KernelTls:
    """kTLS."""

    def prepare(self, sock: socket.socket) -> tuple[int, ...]:
        sock.setsockopt(socket.SOL_TCP, TCP_ULP, ULP_NAME)
        return kernel_cipher_suites()

    def limits_records(self, sock: socket.socket) -> bool:
        try:
            sock.getsockopt(SOL_TLS, SocketOption.TX_MAX_PAYLOAD_LEN, 2)
        except OSError:
            return False
        return True

    def install(self, sock: socket.socket, send: Protection, receive: Protection, send_limit: int) -> None:
        sock.setsockopt(SOL_TLS, SocketOption.TX, _crypto_info(send))
        if send_limit < MAX_INNER_PLAINTEXT:
            sock.setsockopt(SOL_TLS, SocketOption.TX_MAX_PAYLOAD_LEN, struct.pack("=H", send_limit - 1))
        sock.setsockopt(SOL_TLS, SocketOption.RX, _crypto_info(receive))


def _crypto_info(protection: Protection) -> bytes:
    keys = protection.keys
    return CryptoInfo(CIPHER_TYPES[keys.cipher_suite], keys.key, keys.iv, protection.sequence).encode()


@cache
def kernel_cipher_suites() -> tuple[int, ...]:
    """The suites that the kernel's TLS has ciphers for; () if that can't be found out."""
    try:
        return tuple([int(suite) for suite in CipherSuite if _kernel_has(CIPHER_TYPES[suite])])
    except OSError:
        return ()


def _kernel_has(cipher_type: CipherType) -> bool:
    with connection_with_tls() as sock:
        try:
            info = CryptoInfo(cipher_type, bytes(KEY_SIZES[cipher_type]), bytes(IV))
            sock.setsockopt(SOL_TLS, SocketOption.TX, info.encode())
        except OSError:
            return False
    return True


@contextmanager
def connection_with_tls() -> Iterator[socket.socket]:
    """A connection to ourselves that has the ULP, for trying things out; OSError if the kernel has no TLS."""
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname(), timeout=1) as sock,
    ):
        sock.setsockopt(socket.SOL_TCP, TCP_ULP, ULP_NAME)
        yield sock


class TcpEndpoint:
    """The socket's handshake; owns `sock`. See `endpoint.interface.Endpoint` for the methods.

    What is sent is gathered until we wait for an answer, so that a flight is one segment if it fits.
    """

    def __init__(self, sock: socket.socket, continuation: Continuation | None = None) -> None:
        self._sock = sock
        self._continuation = KernelTls() if continuation is None else continuation
        self._records = RecordLayer()
        self._out = bytearray()
        self._nodelay: int | None = None  # the socket's own TCP_NODELAY, while ours is in effect
        self._received = 0  # records

    async def settings(self) -> Settings:
        try:
            nodelay = self._sock.getsockopt(socket.SOL_TCP, socket.TCP_NODELAY)
            cipher_suites = self._continuation.prepare(self._sock)
            self._sock.setsockopt(socket.SOL_TCP, socket.TCP_NODELAY, 1)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOPROTOOPT):
                reason = "this kernel has no TLS: is it built with CONFIG_TLS, and the module tls loaded?"
                raise EndpointError(errno.EPROTONOSUPPORT, reason) from None
            raise _failure("preparing for kernel TLS", error) from None
        self._nodelay = nodelay
        limit = MAX_RECORD_SIZE if self._continuation.limits_records(self._sock) else None
        return Settings(cipher_suites=cipher_suites, record_size_limit=limit)

    async def receive(self) -> tuple[Level, bytes]:
        await self._flush()
        fragment = None
        while fragment is None:
            self._received += 1
            if self._received % _TURN == 0:
                await asyncio.sleep(0)
            header = await self._read(HEADER)
            fragment = self._records.open(header, await self._read(self._records.body_length(header)))
        if fragment.content_type is not ContentType.HANDSHAKE:  # no policy allows it
            raise EndpointError(errno.EPROTO, "there is nobody to give early data to")
        return self._records.level, fragment.content

    async def apply(self, event: TransportEvent) -> None:
        if isinstance(event, InstallSecret):
            self._records.install(event)
        elif isinstance(event, SendMessage):
            self._out += self._records.handshake(event.data)
        elif isinstance(event, PeerRecordSizeLimit):
            self._records.send_limit = event.limit
        elif isinstance(event, SkipEarlyData):
            self._records.skip_early_data(event.limit)

    async def finish(self) -> None:
        await self._flush()
        send, receive = self._records.send, self._records.receive
        assert send is not None
        assert receive is not None
        try:
            self._continuation.install(self._sock, send, receive, self._records.send_limit)
        except OSError as error:
            raise _failure("giving the keys to the kernel", error) from None
        self._restore()

    async def fail(self, alert: AlertDescription, reason: str) -> None:
        self._out += self._records.alert(alert)
        await self._flush()
        # The socket's owner will close it. With bytes unread that is a reset, which may overtake the alert.
        with suppress(OSError):
            self._sock.shutdown(socket.SHUT_WR)
            for _ in range(_DRAIN):
                if not self._sock.recv(_DRAIN_SIZE, socket.MSG_DONTWAIT):
                    break

    def close(self) -> None:
        self._restore()
        self._sock.close()

    async def _flush(self) -> None:
        while self._out:
            try:
                del self._out[: self._sock.send(self._out, socket.MSG_DONTWAIT)]
            except BlockingIOError:
                await writable(self._sock.fileno())
            except OSError as error:
                raise _failure("sending", error) from None

    async def _read(self, size: int) -> bytes:
        """That many bytes and not one more."""
        data = bytearray()
        while len(data) < size:
            try:
                part = self._sock.recv(size - len(data), socket.MSG_DONTWAIT)
            except BlockingIOError:
                await readable(self._sock.fileno())
                continue
            except OSError as error:
                raise _failure("receiving", error) from None
            if not part:
                raise _end_of(self._sock)
            data += part
        return bytes(data)

    def _restore(self) -> None:
        """Nagle's algorithm as we found it."""
        if self._nodelay is not None:
            with suppress(OSError):
                self._sock.setsockopt(socket.SOL_TCP, socket.TCP_NODELAY, self._nodelay)
            self._nodelay = None


def _end_of(sock: socket.socket) -> EndpointError:
    """Why there is nothing more to read. That a kernel consumer gave up shows here and nowhere else: our descriptor
    keeps its socket alive, but the consumer shuts it down, and in both directions, which the peer can't."""
    events = select.poll()
    events.register(sock, 0)
    if any(event & select.POLLHUP for _, event in events.poll(0)):  # tcp_poll() in net/ipv4/tcp.c
        return EndpointError(errno.ECANCELED, "the socket was shut down by its owner, who waits for it no longer")
    return EndpointError(errno.ECONNRESET, "the peer closed the connection during the handshake")


def _failure(what: str, error: OSError) -> EndpointError:
    return EndpointError(error.errno or errno.EIO, f"{what}: {error.strerror or error}")
