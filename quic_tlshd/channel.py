"""What crosses between the monitor and a worker: a short list of typed messages over a SOCK_SEQPACKET socketpair.

    monitor → worker   Ping   UseRegistry (+ memfd)   Perform (+ socket)   Cancel
                       Signature   NoSignature   PskAnswer   Tickets   EarlyDataAnswer
    worker → monitor   Ready   Pong   Sign   FindPsk   SealTickets   ClaimEarlyData   Outcome

One packet is one message in MessagePack; what does not decode to a message of its direction is a ChannelError, and the
monitor ends a worker that sends one. File descriptors travel from the monitor to the worker only.
"""

from __future__ import annotations

import array
import asyncio
import fcntl
import os
import socket
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

import msgspec

from quic_tlshd.policy.registry import Registry
from quic_tlshd.request import HandshakeOutcome, HandshakeRequest
from quic_tlshd.tls.parameters import Psk

_MAX_PACKET = 256 * 1024
_SEND_BUFFER = 512 * 1024
_TURN = 16  # messages that are read before the rest of the event loop has its turn
_MOST_UNSENT = 4096  # messages that the other side may be behind


class ChannelError(Exception):
    """The other side broke the protocol."""


class UseRegistry(msgspec.Struct, frozen=True, tag="use_registry"):
    """The registry for every later Perform; its public parts come in a sealed memfd, as they may be large."""


class Perform(msgspec.Struct, frozen=True, tag="perform"):
    """Do this handshake on the socket that comes along."""

    request: HandshakeRequest


class Cancel(msgspec.Struct, frozen=True, tag="cancel"):
    """Nobody waits for the handshake `id` any more: end it; its Outcome comes all the same."""

    id: int


class Signature(msgspec.Struct, frozen=True, tag="signature"):
    id: int
    signature: bytes


class NoSignature(msgspec.Struct, frozen=True, tag="no_signature"):
    """The key is in a token that can't be used now; reason: for the log."""

    id: int
    reason: str


class PskAnswer(msgspec.Struct, frozen=True, tag="psk_answer"):
    """index: of the identity that was found, -1 for none. psk: the external PSK of that name, or else state: what is
    in that ticket."""

    id: int
    index: int = -1
    psk: Psk | None = None
    state: bytes = b""

    def __repr__(self) -> str:
        return f"PskAnswer(id={self.id}, index={self.index}, psk={self.psk}, state=…)"


class Tickets(msgspec.Struct, frozen=True, tag="tickets"):
    """As many as there were states, or none."""

    id: int
    tickets: tuple[bytes, ...]


class EarlyDataAnswer(msgspec.Struct, frozen=True, tag="early_data_answer"):
    """Whether the early data was claimed by nobody before."""

    id: int
    is_new: bool


class Ping(msgspec.Struct, frozen=True, tag="ping"):
    """Still there?"""


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    """The worker is up, and of that version of quic-tlshd: an upgrade may have come between the two."""

    version: str


class Pong(msgspec.Struct, frozen=True, tag="pong"):
    """The answer to Ping."""


class Sign(msgspec.Struct, frozen=True, tag="sign"):
    """Wanted: a CertificateVerify's signature over transcript_hash by the key of `certificate` (CertificateChain.id),
    for the handshake `id`. The monitor adds the padding and the context string itself."""

    id: int
    certificate: str
    scheme: int
    transcript_hash: bytes


class FindPsk(msgspec.Struct, frozen=True, tag="find_psk"):
    """Wanted: the key of the first of these PSK identities that there is a key for, or the state in it, if it is a
    ticket for that registry entry."""

    id: int
    entry: str
    identities: tuple[bytes, ...]


class SealTickets(msgspec.Struct, frozen=True, tag="seal_tickets"):
    """Wanted: tickets with these states, for that registry entry."""

    id: int
    entry: str
    states: tuple[bytes, ...]

    def __repr__(self) -> str:
        return f"SealTickets(id={self.id}, entry={self.entry!r}, {len(self.states)} states)"


class ClaimEarlyData(msgspec.Struct, frozen=True, tag="claim_early_data"):
    """Wanted: whether this is the first time that this early data comes, to whichever worker."""

    id: int
    claim: bytes


class Outcome(msgspec.Struct, frozen=True, tag="outcome"):
    id: int
    outcome: HandshakeOutcome


Answer = Signature | NoSignature | PskAnswer | Tickets | EarlyDataAnswer
Question = Sign | FindPsk | SealTickets | ClaimEarlyData
ToWorker = Ping | UseRegistry | Perform | Cancel | Answer
ToMonitor = Ready | Pong | Question | Outcome

T = TypeVar("T")
_encode = msgspec.msgpack.Encoder().encode


class Channel(Generic[T]):
    """One end, registered with the running loop. `on_message` gets what `receives` names, with the fd that came along
    or -1, which is then the callee's; `on_end` is called once, when the other end is gone (None) or broke the rules."""

    def __init__(
        self,
        sock: socket.socket,
        receives: object,
        on_message: Callable[[T, int], None],
        on_end: Callable[[ChannelError | None], None],
        *,
        fds: bool,
    ) -> None:
        self._sock = sock
        self._decode: Callable[[memoryview], T] = msgspec.msgpack.Decoder(receives).decode
        self._on_message = on_message
        self._on_end = on_end
        self._ancillary_size = socket.CMSG_SPACE(array.array("i").itemsize) if fds else 0
        self._buffer = memoryview(bytearray(_MAX_PACKET))
        self._unsent: deque[tuple[bytes, int]] = deque()  # each with the fd to pass, ours to close, or -1
        self._loop = asyncio.get_running_loop()
        self._open = True
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
        self._loop.add_reader(sock, self._readable)

    def send(self, message: ToWorker | ToMonitor, fd: int = -1) -> None:
        """Send, or queue while the other side is slow; OSError if `fd`, which stays the caller's, can't be queued."""
        if not self._open:
            return
        packet = _encode(message)
        if len(self._unsent) >= _MOST_UNSENT:
            self._end(ChannelError(f"it does not read: {_MOST_UNSENT} messages wait for it"))
            return
        if self._unsent:
            self._unsent.append((packet, os.dup(fd) if fd >= 0 else -1))
            return
        try:
            self._send(packet, fd)
        except BlockingIOError:
            self._unsent.append((packet, os.dup(fd) if fd >= 0 else -1))
            self._loop.add_writer(self._sock, self._writable)
        except OSError:
            self._end(None)

    def close(self) -> None:
        """Let go of the socket; `on_end` is not called."""
        if not self._open:
            return
        self._open = False
        self._loop.remove_reader(self._sock)
        self._loop.remove_writer(self._sock)
        for _, fd in self._unsent:
            if fd >= 0:
                os.close(fd)
        self._unsent.clear()
        self._sock.close()

    def _send(self, packet: bytes, fd: int) -> None:
        if fd < 0:
            self._sock.send(packet)
        else:
            socket.send_fds(self._sock, [packet], [fd])

    def _writable(self) -> None:
        while self._unsent:
            packet, fd = self._unsent[0]
            try:
                self._send(packet, fd)
            except BlockingIOError:
                return
            except OSError:
                self._end(None)
                return
            self._unsent.popleft()
            if fd >= 0:
                os.close(fd)
        self._loop.remove_writer(self._sock)

    def _readable(self) -> None:
        for _ in range(_TURN):
            if not self._open or not self._receive():
                return

    def _receive(self) -> bool:
        """Take one message, if there is one."""
        try:
            size, ancillary, flags, _ = self._sock.recvmsg_into(
                [self._buffer], self._ancillary_size, socket.MSG_CMSG_CLOEXEC
            )
        except BlockingIOError:
            return False
        except OSError:
            size, ancillary, flags = 0, [], 0
        if size == 0:
            self._end(None)
            return False
        fd = _received_fd(ancillary)
        try:
            if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
                raise ChannelError("a packet was cut")
            message = self._decode(self._buffer[:size])
        except (ChannelError, msgspec.MsgspecError) as error:
            if fd >= 0:
                os.close(fd)
            self._end(ChannelError(f"a packet of {size} bytes is no message: {error}"))
            return False
        self._on_message(message, fd)
        return True

    def _end(self, error: ChannelError | None) -> None:
        self.close()
        self._on_end(error)


def _received_fd(ancillary: list[tuple[int, int, bytes]]) -> int:
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            (fd,) = array.array("i", data)
            return fd
    return -1


def pack_registry(registry: Registry) -> int:
    """A sealed memfd that holds the registry; the caller's to close."""
    fd = os.memfd_create("registry", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    with os.fdopen(os.dup(fd), "wb") as file:
        file.write(_encode(registry))
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
    return fd


def unpack_registry(fd: int) -> Registry:
    """Read what `pack_registry` wrote, and close the fd. Other workers may be reading it: its offset is theirs too."""
    try:
        return msgspec.msgpack.decode(os.pread(fd, os.fstat(fd).st_size, 0), type=Registry)
    finally:
        os.close(fd)
