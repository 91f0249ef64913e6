"""Kernel QUIC sockets without the kernel: two connected `FakeQuicSocket`s, which an endpoint takes for real ones.

Modelled after net/quic/socket.c of github.com/lxin/quic:

- options: lengths, values and states that are refused, with the kernel's errno; the ALPN list kept with length bytes,
  which a reader's buffer must have room for; struct quic_config in both sizes; TOKEN tells the server;
  CONNECTION_CLOSE gives the peer's reason once it has closed;
- SESSION_TICKET on a server: 64 bytes that are the same for all connections of a listener from one address (the port
  does not count), or what the owner has set for this connection. On a client: what the owner has set, until the APP
  secret to receive with comes; from then on nothing, until the first message at level APP is whole, and that then. What
  is set has 64 to 4096 bytes, and a reader's buffer must have room for it;
- messages at level APP come out of SESSION_TICKET and nowhere else, and only the first does: any type is taken for a
  NewSessionTicket, more messages in its frame come out with it, later ones vanish, and so does one of more than 4096
  bytes or one that finds something set there. Nothing wakes who waits for it. It stays to be read when the connection
  has been closed. *On a server, what a client sends at level APP replaces the key*: whoever reads the key when there is
  an APP secret to receive with may read what the client wishes. They can be sent as soon as there is an APP secret to
  send with, and still after DONE;
- secrets: never at INITIAL, only while establishing, of known cipher types; established with both APP
  secrets;
- sendmsg: refused without the level's secret, without data, with unknown flags or after the end; may take less than
  offered; EAGAIN when full; MSG_MORE keeps frames back, and what goes out together goes in order of the levels;
- recvmsg: one CRYPTO frame with its level in a control message; frames and data wait until their secret is there;
  ENOTCONN after the peer's close, but only when all is read; events of the owner as MSG_QUIC_NOTIFICATION;
- readiness: a SOCK_SEQPACKET pair for each socket, whose other end is the kernel's.

Structures are unpacked here by layouts of their own, so that a mistake in `quic_tlshd.uapi.quic` shows. Not modelled:
loss, packet protection, timers, flow control.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import struct
from collections import deque
from collections.abc import Callable, Iterable, Iterator

SOL_QUIC = 288
CONNECTION_CLOSE, CONFIG, TOKEN, ALPN, SESSION_TICKET, CRYPTO_SECRET, TRANSPORT_PARAM_EXT = 5, 9, 10, 11, 12, 13, 14
APP, INITIAL, HANDSHAKE, EARLY = range(4)
STREAM_INFO, HANDSHAKE_INFO = 0, 1
SEND_FLAGS = socket.MSG_MORE | socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL
TRANSPORT_PARAMETER_ERROR, APPLICATION_ERROR = 0x08, 0x0C

STREAM, EVENT = 0x40, 0x41  # beside the levels: kinds of what waits to be received

Split = Callable[[bytes], Iterable[bytes]]


def whole(data: bytes) -> Iterator[bytes]:
    yield data


class FakeQuicSocket:
    """The user's end; `peer` is the socket it is connected with.

    secrets: what was installed, (level, send) to (cipher type, 48 bytes). datagrams: what was sent together.
    most: bytes that one sendmsg takes. split: cuts what is sent into CRYPTO frames. listener_key: the server's ticket
    key.
    """

    peer: FakeQuicSocket

    def __init__(
        self,
        *,
        server: bool,
        alpn: str = "",
        cipher_type: int = 0,
        certificate_request: int = 0,
        config_size: int = 28,
        receive_session_ticket: int = 0,
        listener_key: bytes = bytes(range(64)),
        transport_parameters: bytes = b"\x04\x01\x3f",  # initial_max_data
        split: Split = whole,
        most: int = 1 << 20,
        sndbuf: int = 1 << 18,
    ) -> None:
        self.server = server
        self.transport_parameters = transport_parameters
        self.peer_transport_parameters = b""
        self.secrets: dict[tuple[int, bool], tuple[int, bytes]] = {}
        self.datagrams: list[list[tuple[int, bytes]]] = []
        self.state = "establishing"
        self.split, self.most = split, most
        self._listener_key = listener_key
        self._ticket, self._ticket_ready, self._app_received = b"", False, 0
        self._alpn = b"".join(bytes((len(name),)) + name.encode() for name in alpn.split(",") if name)
        wishes = (0, 0, 0, receive_session_ticket, certificate_request)
        config = struct.pack("=4I5B3xI", 1, 0, 333000, cipher_type, *wishes, 0)
        self._config = config[:config_size]
        self._close = (0, b"")
        self._control_list: list[tuple[int, bytes]] = []
        self._backlog: list[tuple[int, int, bytes]] = []
        self._recv_list: deque[tuple[int, bytes]] = deque()
        self._user, self._kernel = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
        self._user.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, sndbuf)

    def fileno(self) -> int:
        return self._user.fileno()

    def close(self) -> None:
        """Let go of the descriptor; the socket lives on, its owner has another one."""
        self._user.close()

    # sending

    def sendmsg(self, buffers: Iterable[memoryview], control: list[tuple[int, int, bytes]], flags: int, /) -> int:
        data = b"".join(buffers)
        ((level, kind, value),) = control
        require(flags & ~SEND_FLAGS == 0, errno.EINVAL)
        require(self.state != "closed", errno.EPIPE)
        require((level, kind, len(value)) == (SOL_QUIC, HANDSHAKE_INFO, 1), errno.EINVAL)
        require(value[0] == INITIAL or ((value[0], True) in self.secrets and value[0] < EARLY), errno.EINVAL)
        require(len(data) > 0, errno.EMSGSIZE)
        more = bool(flags & socket.MSG_MORE)
        return self._user.send(value + bytes((more,)) + data[: self.most]) - 2

    def transmit(self) -> None:
        """The kernel's part: take what was sent, hand it to the peer."""
        while True:
            try:
                packet = self._kernel.recv(1 << 17)
            except BlockingIOError:
                return
            if not packet:
                return
            self._control_list += [(packet[0], frame) for frame in self.split(packet[2:])]
            if not packet[1]:
                frames = sorted(self._control_list, key=lambda frame: (frame[0] - 1) % 4)  # INITIAL first, APP last
                self._control_list = []
                self.datagrams.append(frames)
                for level, frame in frames:
                    self.peer.arrive(level, level, frame)

    def send_stream(self, data: bytes) -> None:
        """The owner's data, at level APP."""
        assert (APP, True) in self.secrets
        self.peer.arrive(APP, STREAM, data)

    # receiving

    def arrive(self, level: int, kind: int, data: bytes) -> None:
        """Something comes: handshake data if `kind` is the level, else STREAM or EVENT. It waits for its secret."""
        if level != INITIAL and (level, False) not in self.secrets:
            self._backlog.append((level, kind, data))
            return
        if kind == APP:
            self._take_ticket(data)
            return
        if not self._recv_list:
            self._kernel.send(b"readable")
        self._recv_list.append((kind, data))

    def _take_ticket(self, data: bytes) -> None:
        """Data at level APP, in order."""
        self._app_received += len(data)
        if not self._ticket_ready and len(self._ticket) + len(data) == self._app_received <= 4096:
            self._ticket += data
            length = 4 + int.from_bytes(self._ticket[1:4])
            self._ticket_ready = len(self._ticket) >= max(length, 4)

    def recvmsg(
        self, size: int, control_size: int, flags: int, /
    ) -> tuple[bytes, list[tuple[int, int, bytes]], int, None]:
        assert flags == socket.MSG_DONTWAIT
        assert control_size >= socket.CMSG_SPACE(16)
        require(bool(self._recv_list) or self.state != "closed", errno.ENOTCONN)
        require(bool(self._recv_list), errno.EAGAIN)
        kind, data = self._recv_list.popleft()
        if len(data) > size:
            self._recv_list.appendleft((kind, data[size:]))
            data = data[:size]
        if not self._recv_list:
            self._user.recv(16)
        if kind == EVENT:
            return data, [], socket.MSG_MORE, None
        if kind == STREAM:
            return data, [(SOL_QUIC, STREAM_INFO, struct.pack("=qI4x", 0, 0))], 0, None
        return data, [(SOL_QUIC, HANDSHAKE_INFO, bytes((kind,)))], socket.MSG_EOR, None

    # options

    def getsockopt(self, level: int, option: int, size: int, /) -> bytes:
        require(level == SOL_QUIC, errno.ENOPROTOOPT)
        if option == SESSION_TICKET:
            ticket = self._session_ticket()
            require(size >= len(ticket), errno.EINVAL)
            return ticket
        if option == TRANSPORT_PARAM_EXT:
            require(self.state == "establishing" and size >= len(self.transport_parameters), errno.EINVAL)
            return self.transport_parameters
        if option == CONFIG:
            return self._config[:size]
        if option == ALPN:
            require(size >= len(self._alpn), errno.EINVAL)
            return b",".join(self.alpn)
        if option == TOKEN:
            require(not self.server, errno.EINVAL)
            return b""
        if option == CONNECTION_CLOSE:
            return struct.pack("=IB3x64s", self._close[0], 0, self._close[1])[:size]
        raise OSError(errno.ENOPROTOOPT, os.strerror(errno.ENOPROTOOPT))

    def setsockopt(self, level: int, option: int, value: bytes, /) -> None:
        require(level == SOL_QUIC, errno.ENOPROTOOPT)
        if option == TRANSPORT_PARAM_EXT:
            self._set_peer_transport_parameters(value)
        elif option == ALPN:
            require(0 < len(value) <= 128, errno.EINVAL)
            self._alpn = b"".join(bytes((len(name),)) + name for name in value.split(b","))
        elif option == CONNECTION_CLOSE:
            errcode, phrase = struct.unpack("=I4x64s", value)
            self._close = errcode, phrase.partition(b"\0")[0][:63]
        elif option == SESSION_TICKET:
            require(64 <= len(value) <= 4096, errno.EINVAL)
            self._ticket = value
        elif option == CRYPTO_SECRET:
            self._set_crypto_secret(*struct.unpack("=BBHI48s", value))
        else:
            raise OSError(errno.ENOPROTOOPT, os.strerror(errno.ENOPROTOOPT))

    def _session_ticket(self) -> bytes:
        if self.server:
            require(self.state != "closed", errno.EPIPE)
            return self._ticket or self._listener_key
        return self._ticket if self.state == "establishing" or self._ticket_ready else b""

    @property
    def alpn(self) -> list[bytes]:
        names, rest = [], self._alpn
        while rest:
            names.append(rest[1 : 1 + rest[0]])
            rest = rest[1 + rest[0] :]
        return names

    @property
    def connection_close(self) -> tuple[int, bytes]:
        return self._close

    def _set_peer_transport_parameters(self, value: bytes) -> None:
        require(self.state == "establishing" and len(value) <= 512, errno.EINVAL)
        at = 0
        while at < len(value):  # one-byte identifiers and lengths will do
            at += 2 + value[at + 1] if at + 1 < len(value) else len(value) + 1
        if at > len(value):
            self._end(TRANSPORT_PARAMETER_ERROR, b"")
            self.peer._end(TRANSPORT_PARAMETER_ERROR, b"")
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        self.peer_transport_parameters = value

    def _set_crypto_secret(self, send: int, level: int, reserved: int, cipher_type: int, secret: bytes) -> None:
        require(self.state == "establishing" and level != INITIAL, errno.EINVAL)
        require(reserved == 0 and cipher_type in range(51, 55), errno.EINVAL)
        assert (level, bool(send)) not in self.secrets, "the kernel would take it, but no handshake installs it twice"
        self.secrets[level, bool(send)] = cipher_type, secret
        if (level, send) == (APP, 0):
            self._ticket = b""
        if not send:
            waiting, self._backlog = self._backlog, []
            for packet in waiting:
                self.arrive(*packet)
        if {(APP, True), (APP, False)} <= self.secrets.keys():
            self.state = "established"

    # the end

    def shut_down(self) -> None:
        """The owner closes: while establishing, the kernel replaces the error code, only the phrase survives."""
        errcode, phrase = self._close
        if self.state == "establishing":
            errcode = APPLICATION_ERROR
        self.peer.close_by_peer(errcode, phrase)
        self._end(errcode, phrase)

    def close_by_peer(self, errcode: int, phrase: bytes = b"") -> None:
        """A CONNECTION_CLOSE frame has come."""
        self._end(errcode, phrase)

    def _end(self, errcode: int, phrase: bytes) -> None:
        self.state, self._close = "closed", (errcode, phrase)
        self._kernel.shutdown(socket.SHUT_RDWR)

    def destroy(self) -> None:
        self._user.close()
        self._kernel.close()


def require(condition: bool, number: int) -> None:
    if not condition:
        raise OSError(number, os.strerror(number))


class Pair:
    """A client's and a server's socket, connected while the ``with`` block lasts."""

    def __init__(self, client: FakeQuicSocket, server: FakeQuicSocket) -> None:
        self.client, self.server = client, server
        client.peer, server.peer = server, client

    def __enter__(self) -> Pair:
        loop = asyncio.get_running_loop()
        for sock in (self.client, self.server):
            loop.add_reader(sock._kernel.fileno(), self._transmit, sock)
        return self

    def _transmit(self, sock: FakeQuicSocket) -> None:
        sock.transmit()
        if sock.state == "closed":
            asyncio.get_running_loop().remove_reader(sock._kernel.fileno())

    def __exit__(self, *_: object) -> None:
        for sock in (self.client, self.server):
            asyncio.get_running_loop().remove_reader(sock._kernel.fileno())
            sock.destroy()
