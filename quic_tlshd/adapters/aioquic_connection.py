"""A QUIC connection of aioquic with the daemon in the place of its TLS; for programs that own their UDP socket.

What aioquic is relied on for is listed in quic_tlshd/adapters/aioquic.py.
"""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import Callable
from typing import Any, cast

from aioquic.buffer import Buffer  # type: ignore[attr-defined]  # it is documented and not re-exported by name
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import NetworkAddress, QuicConnection, QuicConnectionError, QuicReceiveContext
from aioquic.quic.crypto import CIPHER_SUITES
from aioquic.quic.packet import QuicErrorCode, QuicFrameType, QuicPacketType, pull_quic_header
from aioquic.quic.stream import QuicStream
from aioquic.tls import Epoch

from netlink.handshake import Done
from quic_tlshd.adapters.aioquic_configuration import certificate_request, request, without_tls
from quic_tlshd.adapters.aioquic_context import HELLO_RANDOM, TLS, RemoteContext
from quic_tlshd.adapters.rebind import rebind
from quic_tlshd.adapters.remote import Daemon, RemoteHandshake
from quic_tlshd.endpoint.userspace_protocol import Message, encode_settings
from quic_tlshd.endpoint.userspace_protocol import MessageType as Said
from quic_tlshd.tls.messages import HELLO_RETRY_REQUEST_RANDOM
from quic_tlshd.tls.parameters import ClientCertificate, Level

log = logging.getLogger(__name__)

HANDSHAKE_TIMEOUT = 10.0
MAX_HELD = 64  # packets that came before the keys for them

_DAEMON: Any = object()  # stands among the epochs of CRYPTO streams: what the daemon says
_NO_PATH: Any = None
_FRAME = b"\x00\x01\x00"  # the rest of a CRYPTO frame: offset 0, length 1, a byte that stands for Context.incoming
_EPOCHS = {QuicPacketType.HANDSHAKE: Epoch.HANDSHAKE, QuicPacketType.ONE_RTT: Epoch.ONE_RTT}


class Connection(QuicConnection):
    """A QuicConnection for asyncio: `now` is the event loop's time everywhere.

    daemon: who does the handshake.
    wake: called when the daemon has said something, to take the events and to transmit; may be set later.
    present_certificate: whether a client lets the daemon show a certificate when the server asks for one.
    client_certificate: what a server asks of clients, None to leave it to the registry entry.
    handshake_timeout: seconds.
    The rest is QuicConnection's. ValueError if the configuration decides something that is the daemon's to decide.

    handshake: how the handshake ended, None before that.
    """

    def __init__(
        self,
        *,
        configuration: QuicConfiguration,
        daemon: Daemon,
        wake: Callable[[], None] = lambda: None,
        present_certificate: bool = False,
        client_certificate: ClientCertificate | None = None,
        handshake_timeout: float = HANDSHAKE_TIMEOUT,
        **rest: Any,
    ) -> None:
        super().__init__(configuration=without_tls(configuration), **rest)
        self.wake = wake
        self.handshake: Done | None = None
        self._daemon = daemon
        self._request = request(configuration, present_certificate, handshake_timeout)
        self._certificate_request = certificate_request(configuration, present_certificate, client_certificate)
        self._context: RemoteContext | None = None
        self._remote: RemoteHandshake | None = None
        self._peer_address = ""
        self._peer_version: int | None = None  # of the packet that brought the last CRYPTO data
        self._first_flight: list[Message] = []  # a client's, to repeat it after Retry
        self._unapplied: list[Message] = []
        self._held: list[tuple[bytes, NetworkAddress]] = []
        # A server has the HANDSHAKE keys before anybody can use them.
        self._awaited = {Epoch.ONE_RTT} | ({Epoch.HANDSHAKE} if configuration.is_client else set())
        self._mute = configuration.is_client  # until there is a ClientHello

    @property
    def failure(self) -> str:
        """Why there is no connection, in one line; for people."""
        if self.handshake is not None and self.handshake.reason:
            return self.handshake.reason
        if self._close_event is not None:
            return f"closed with error {self._close_event.error_code:#x} {self._close_event.reason_phrase}".rstrip()
        return "no failure is known"

    # what the owner of the UDP socket calls

    def close(
        self, error_code: int = QuicErrorCode.NO_ERROR, frame_type: int | None = None, reason_phrase: str = ""
    ) -> None:
        super().close(error_code, frame_type, reason_phrase)
        self._let_go()

    def datagrams_to_send(self, now: float) -> list[tuple[bytes, NetworkAddress]]:
        if self._waits_for_client_hello:
            return []
        datagrams = super().datagrams_to_send(now)
        return [] if self._mute else datagrams  # a server that has heard nothing need not hear of the end either

    def get_timer(self) -> float | None:
        # Nothing can be lost yet, and that the daemon answers in time is its own timeout's matter.
        return None if self._waits_for_client_hello else super().get_timer()

    def handle_timer(self, now: float) -> None:
        super().handle_timer(now)
        self._note_end()

    def connect(self, addr: NetworkAddress, now: float) -> None:
        self._peer_address = _address(addr)
        super().connect(addr, now)

    def receive_datagram(self, data: bytes, addr: NetworkAddress, now: float) -> None:
        if self._context is None:
            self._peer_address = _address(addr)
        super().receive_datagram(data, addr, now)
        if self._context is not None and self.handshake is None:
            self._hold(self._context, data, addr)
        self._note_end()

    @property
    def _waits_for_client_hello(self) -> bool:
        return self._mute and self._close_event is None

    # what aioquic calls

    def _initialize(self, peer_cid: bytes) -> None:
        """The start of a connection, and once more after Retry and Version Negotiation at a client."""
        before, flight = self._context, self._first_flight
        _initialize(self, peer_cid)
        self._context = context = cast(RemoteContext, self.tls)
        context.forward = self._forward
        self._first_flight = []
        if not self.configuration.is_client:
            # Our transport parameters leave before the ClientHello is read, so the version in them must stay.
            self._version_negotiated_compatible = True
        elif before is not None and before.transport_parameters == context.transport_parameters:
            # RFC 9000 section 17.2.5.2: the same ClientHello follows a Retry.
            for message in flight:
                self._feed(context, message)
        else:
            self._mute = True
            self._let_go()
            self._ask(context)

    def _handle_crypto_frame(self, context: QuicReceiveContext, frame_type: int, buf: Buffer) -> None:
        if context.epoch is not _DAEMON:
            assert self._context is not None
            self._context.peer_epoch = context.epoch
            self._peer_version = context.version
        super()._handle_crypto_frame(context, frame_type, buf)

    # between aioquic and the daemon

    def _ask(self, context: RemoteContext) -> None:
        suites = tuple(self.configuration.cipher_suites or CIPHER_SUITES)
        settings = encode_settings(context.transport_parameters, self._certificate_request, suites, self._peer_address)
        try:
            self._remote = self._daemon.start(self._request, settings, self._deliver)
        except OSError as error:
            self._finish(context, Done(error.errno or errno.EIO, reason=error.strerror))

    def _forward(self, level: Level, data: bytes) -> None:
        """CRYPTO data of the peer; the first is what starts a server's handshake."""
        assert self._context is not None
        if self._remote is None and self.handshake is None:
            self._ask(self._context)
        if self._remote is not None:
            try:
                self._remote.send(level, data)
            except OverflowError as error:
                code = QuicErrorCode.CRYPTO_BUFFER_EXCEEDED
                raise QuicConnectionError(code, QuicFrameType.CRYPTO, str(error)) from error

    def _deliver(self, remote: RemoteHandshake, messages: list[Message], done: Done | None) -> None:
        """What the daemon said (the callback of RemoteHandshake)."""
        context = self._context
        if remote is not self._remote or context is None:
            return  # of a ClientHello that Version Negotiation has made worthless
        self._unapplied += messages
        if done is None and not self.configuration.is_client and _is_half_a_flight(self._unapplied):
            return
        receivable = len(context.receivable)
        messages, self._unapplied = self._unapplied, []
        for message in messages:
            if self._close_event is None:
                self._apply(context, message)
        if done is not None:
            self._finish(context, done)
        if len(context.receivable) > receivable:
            held, self._held = self._held, []
            for packet, addr in held:
                self.receive_datagram(packet, addr, asyncio.get_running_loop().time())
        self.wake()

    def _apply(self, context: RemoteContext, message: Message) -> None:
        if message.type == Said.ALERT:
            phrase = message.body.decode(errors="replace")
            self.close(QuicErrorCode.CRYPTO_ERROR + message.argument, QuicFrameType.CRYPTO, phrase)
            return
        if message.type == Said.CRYPTO and self._peer_version is None:
            self._first_flight.append(message)
            self._mute = False
        self._feed(context, message)

    def _finish(self, context: RemoteContext, done: Done) -> None:
        self.handshake = done
        if self._close_event is not None:
            return
        if done.status == 0 and context.established:
            self._feed(context, done)
        elif done.status != 0 and done.alert is not None:
            self.close(QuicErrorCode.CRYPTO_ERROR + done.alert, QuicFrameType.CRYPTO)
        else:
            # What exactly failed is for us, not for the peer.
            log.warning("the handshake with %s failed: %s", self._peer_address, done.reason or "no keys came")
            self.close(QuicErrorCode.INTERNAL_ERROR, QuicFrameType.CRYPTO, "the TLS handshake can't be done here")

    def _feed(self, context: RemoteContext, incoming: Message | Done) -> None:
        """Let aioquic take it as a CRYPTO frame of a stream that only this connection has.

        So output, keys and the end of the handshake are followed by what aioquic does after any other CRYPTO frame.
        """
        context.incoming = incoming
        self._crypto_streams[_DAEMON] = QuicStream()
        frame = QuicReceiveContext(_DAEMON, b"", _NO_PATH, [], 0.0, self._peer_version)
        try:
            self._handle_crypto_frame(frame, QuicFrameType.CRYPTO, Buffer(data=_FRAME))
        except QuicConnectionError as error:
            self.close(error.error_code, error.frame_type, error.reason_phrase)
        except (LookupError, ValueError):
            self.close(QuicErrorCode.INTERNAL_ERROR, QuicFrameType.CRYPTO, "the handshake daemon can't be understood")
        finally:
            context.incoming = None

    def _hold(self, context: RemoteContext, datagram: bytes, addr: NetworkAddress) -> None:
        """Keep the packets of a datagram that can't be read before the daemon has answered (RFC 9001 section 5.7).

        aioquic drops them, and with a TLS that takes its time every handshake would wait for a retransmission.
        """
        buf = Buffer(data=datagram)
        while not buf.eof() and len(self._held) < MAX_HELD:
            start = buf.tell()
            try:
                header = pull_quic_header(buf, host_cid_length=self.configuration.connection_id_length)
            except ValueError:
                return
            end = start + header.packet_length
            epoch = _EPOCHS.get(header.packet_type)
            if epoch in self._awaited - context.receivable:
                self._held.append((datagram[start:end], addr))
            buf.seek(end)

    def _note_end(self) -> None:
        """If aioquic knows the end of the connection, the daemon is told, and of an alert which it was."""
        if self._close_event is not None and self._remote is not None:
            alert = self._close_event.error_code - QuicErrorCode.CRYPTO_ERROR
            if 0 <= alert <= 0xFF and self.handshake is None:
                self._remote.send_alert(alert)
            self._let_go()

    def _let_go(self) -> None:
        self._held.clear()
        if self._remote is not None:
            self._remote.close()


def _is_half_a_flight(messages: list[Message]) -> bool:
    """Whether a server has its ServerHello, while the rest of its flight is being signed.

    A ServerHello alone would be padded to a datagram of its own, and a server may send no more than three before the
    client's address is validated (RFC 9000 section 8.1). Nothing follows a HelloRetryRequest.
    """
    crypto = {message.level: message.body for message in messages if message.type == Said.CRYPTO}
    if Level.INITIAL not in crypto or Level.HANDSHAKE in crypto:
        return False
    retries = crypto[Level.INITIAL][HELLO_RANDOM] == HELLO_RETRY_REQUEST_RANDOM
    return not retries and all(message.type != Said.ALERT for message in messages)


def _address(addr: NetworkAddress) -> str:
    """For the daemon's log, the way it writes addresses. An IPv4 peer of a dual-stack socket is an IPv4 peer."""
    host, port, *_ = addr
    return f"{host.removeprefix('::ffff:')} port {port}"


_initialize = rebind(QuicConnection._initialize, tls=TLS)
