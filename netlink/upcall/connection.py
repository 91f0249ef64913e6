"""One caller's connection to the daemon, and the upcalls that are outstanding on it."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import struct
from array import array
from collections import Counter, deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace

from netlink.descriptors import close_elsewhere, still_open, why_no_socket
from netlink.handshake import Accept, Done
from netlink.limited_log import LimitedLog
from netlink.message import MalformedMessage, peek_sequence
from netlink.upcall.protocol import MAX_ANSWER, MAX_REQUEST, decode_request, encode_answer

log = logging.getLogger(__name__)

# SCM_MAX_FD, all that can come with a packet: what does not fit is closed in recvmsg(2), which may block.
DESCRIPTORS = 253
PAUSE = 0.5  # seconds without reading from a caller whose descriptors take long to close

OnAccept = Callable[["Upcall"], None]


@dataclass(frozen=True, slots=True)
class Limits:
    """What a caller may take of the daemon. A user is a uid."""

    connections: int = 1024
    connections_per_user: int = 256
    upcalls_per_connection: int = 256
    upcalls_per_user: int = 1024
    closing_per_user: int = 512  # refused descriptors whose close still lasts; then the user has to wait
    unread: int = 1 << 20  # bytes of answers that a connection did not read yet


@dataclass(frozen=True, slots=True)
class Peer:
    """SO_PEERCRED: who connected."""

    pid: int
    uid: int
    gid: int

    @classmethod
    def of(cls, connection: socket.socket) -> Peer:
        return cls(*struct.unpack("=iII", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)))

    def __str__(self) -> str:
        return f"pid {self.pid} uid {self.uid}"


class Upcall:
    """One request. `sock_fd`, which is also `accept.sockfd`, belongs to whom the upcall was given."""

    __slots__ = ("_connection", "_sequence", "accept", "cancelled", "peer", "sock_fd")

    def __init__(self, connection: Connection, sequence: int, accept: Accept) -> None:
        self._connection: Connection | None = connection
        self._sequence = sequence
        self.accept = accept
        self.sock_fd = accept.sockfd
        self.peer = connection.peer
        self.cancelled: Callable[[], None] | None = None  # set it to hear that the caller has gone before DONE

    @property
    def outstanding(self) -> bool:
        """Whether the caller still waits for DONE."""
        return self._connection is not None

    def done(self, done: Done) -> bool:
        """Answer the caller. False if it was answered before or has gone: nothing is sent then."""
        connection, self._connection = self._connection, None
        if connection is None:
            return False
        connection.end(self)
        return connection.answer(done, self._sequence)

    def cancel(self) -> None:
        """The caller has gone."""
        self._connection = None
        if self.cancelled is not None:
            try:
                self.cancelled()
            except Exception:
                log.exception("the cancellation of an upcall of %s", self.peer)


class Connection:
    """Reads requests and queues answers; its socket has a reader for as long as it is open."""

    def __init__(
        self,
        connection: socket.socket,
        peer: Peer,
        on_accept: OnAccept,
        limits: Limits,
        users: Counter[int],
        log: LimitedLog,
        on_close: Callable[[Connection], None],
    ) -> None:
        self.peer = peer
        self._socket: socket.socket | None = connection
        self._on_accept = on_accept
        self._limits = limits
        self._users = users  # outstanding upcalls of each uid, shared with all connections
        self._log = log  # for what callers can cause as often as they like
        self._on_close = on_close
        self._upcalls: set[Upcall] = set()
        self._answers: deque[bytes] = deque()
        self._unread = 0
        self._resume: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        connection.setblocking(False)
        # A DONE with a long certificate chain is one packet; net.core.wmem_max bounds what we get.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, MAX_ANSWER)
        granted = connection.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
        self._largest = min(granted - 32, MAX_ANSWER)  # unix_dgram_sendmsg: beyond that it is EMSGSIZE
        self._loop.add_reader(connection.fileno(), self._receive)

    def close(self) -> None:
        """Close the connection and cancel its upcalls."""
        if self._socket is None:
            return
        if self._resume is not None:
            self._resume.cancel()
        self._loop.remove_reader(self._socket.fileno())
        self._loop.remove_writer(self._socket.fileno())
        close_connection(self._socket, self.peer)
        self._socket = None
        self._answers.clear()
        self._on_close(self)
        while self._upcalls:  # a cancelled upcall may end others
            upcall = next(iter(self._upcalls))
            self.end(upcall)
            upcall.cancel()

    def end(self, upcall: Upcall) -> None:
        """The upcall is no longer outstanding."""
        self._upcalls.remove(upcall)
        self._users[self.peer.uid] -= 1

    def answer(self, done: Done, sequence: int) -> bool:
        """Send a DONE, or queue it behind those that the caller did not read yet. False if the caller has gone."""
        if self._socket is None:
            return False
        packet = _encode_fitting(done, sequence, self._largest, self._log)
        if not self._answers and self._send(packet):
            return True
        if self._socket is None:
            return False
        self._answers.append(packet)
        self._unread += len(packet)
        if self._unread > self._limits.unread:
            self._log.info("connection of %s closed: it does not read its answers", self.peer)
            self.close()
            return False
        self._loop.add_writer(self._socket.fileno(), self._flush)
        return True

    def _flush(self) -> None:
        while self._answers and self._send(self._answers[0]):
            self._unread -= len(self._answers.popleft())
        if self._socket is not None and not self._answers:
            self._loop.remove_writer(self._socket.fileno())

    def _send(self, packet: bytes) -> bool:
        """Whether it was sent. If the socket fails for good it is closed."""
        assert self._socket is not None
        try:
            self._socket.send(packet)
        except BlockingIOError:
            return False
        except OSError as error:
            self._log.debug("connection of %s: %s", self.peer, error)
            self.close()
            return False
        return True

    def _receive(self) -> None:
        """Read one packet. What else waits has its turn when the other connections have had theirs."""
        assert self._socket is not None
        if still_open(self.peer.uid) > self._limits.closing_per_user:
            self._loop.remove_reader(self._socket.fileno())
            self._resume = self._loop.call_later(PAUSE, self._loop.add_reader, self._socket.fileno(), self._receive)
            return
        try:
            packet, control, flags, _address = self._socket.recvmsg(
                MAX_REQUEST, socket.CMSG_SPACE(4 * DESCRIPTORS), socket.MSG_CMSG_CLOEXEC
            )
        except BlockingIOError:
            return
        except OSError as error:
            self._log.debug("connection of %s: %s", self.peer, error)
            self.close()
            return
        descriptors = _descriptors(control)
        try:
            if not packet:
                self.close()
            elif self._request(packet, descriptors, flags):
                descriptors = []
        finally:
            for descriptor in descriptors:
                close_elsewhere(descriptor, self.peer.uid)

    def _request(self, packet: bytes, descriptors: list[int], flags: int) -> bool:
        """Hand one request over, or answer why not. Whether the descriptor was taken."""
        try:
            if flags & socket.MSG_TRUNC:
                raise MalformedMessage(f"longer than {MAX_REQUEST} bytes")
            if flags & socket.MSG_CTRUNC:  # there was room for all of them
                self._refuse(packet, errno.EAGAIN, "the daemon is out of descriptors")
                return False
            if len(descriptors) != 1:
                raise MalformedMessage("there must be exactly one descriptor")
            sequence, accept = decode_request(packet)
        except MalformedMessage as error:
            self._refuse(packet, errno.EINVAL, str(error))
            return False
        no_socket = why_no_socket(descriptors[0])
        if no_socket is not None:
            self._refuse(packet, errno.ENOTSOCK, f"the descriptor is no socket: {no_socket}")
            return False
        if (
            len(self._upcalls) >= self._limits.upcalls_per_connection
            or self._users[self.peer.uid] >= self._limits.upcalls_per_user
        ):
            self._refuse(packet, errno.EAGAIN, "too many upcalls are outstanding")
            return False
        upcall = Upcall(self, sequence, replace(accept, sockfd=descriptors[0]))
        self._upcalls.add(upcall)
        self._users[self.peer.uid] += 1
        try:
            self._on_accept(upcall)
        except Exception:  # noqa: BLE001  # logged with its traceback
            self._log.exception("the upcall of %s was not taken", self.peer)
            upcall.done(Done(status=errno.EIO))
            return False
        return True

    def _refuse(self, packet: bytes, status: int, reason: str) -> None:
        sequence = peek_sequence(packet)
        if sequence is None:  # whoever speaks something else is not heard twice: one line in the log
            self._log.info("connection of %s closed: %s", self.peer, reason)
            self.close()
            return
        self.answer(Done(status=status, reason=reason), sequence)


def close_connection(connection: socket.socket, peer: Peer) -> None:
    """End a connection now and close it elsewhere: sockets may wait in it unread."""
    with suppress(OSError):  # the caller was first
        connection.shutdown(socket.SHUT_RDWR)
    close_elsewhere(connection.detach(), peer.uid)


def _descriptors(control: list[tuple[int, int, bytes]]) -> list[int]:
    descriptors = array("i")
    for level, kind, payload in control:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            descriptors.frombytes(payload[: len(payload) & ~3])
    return descriptors.tolist()


def _encode_fitting(done: Done, sequence: int, largest: int, log: LimitedLog) -> bytes:
    """The packet for `done`; without the certificate chain if that does not fit. There is always a DONE."""
    try:
        return _encode(done, sequence, largest)
    except MalformedMessage as error:
        reason = str(error)
    if done.peer_chain:
        try:
            packet = _encode(replace(done, peer_chain=()), sequence, largest)
        except MalformedMessage as error:
            reason = str(error)
        else:
            log.warning("DONE without PEER_CERTIFICATE: %s", reason)
            return packet
    log.error("DONE can't be sent as it is, EIO goes out: %s", reason)
    return encode_answer(Done(status=errno.EIO, reason="the answer can't be encoded"), sequence)


def _encode(done: Done, sequence: int, largest: int) -> bytes:
    packet = encode_answer(done, sequence)
    if len(packet) > largest:
        raise MalformedMessage(f"{len(packet)} bytes, at most {largest} fit")
    return packet
