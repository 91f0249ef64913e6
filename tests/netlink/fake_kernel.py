"""ACCEPT and DONE as net/handshake/netlink.c has them: answered before send() returns, strict, looked up by socket."""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections import deque
from collections.abc import Callable

from netlink.handshake import Accept, Done, decode_attributes, decode_done, encode_accept
from netlink.message import decode_messages, encode_message

FAMILY = 0x1F
NLMSG_ERROR = 2


class FakeKernel:
    """One network namespace with its pending requests; `requests` and `ready` are its two netlink sockets."""

    def __init__(self) -> None:
        self.pending: deque[Callable[[int], bytes]] = deque()
        self.done: list[Done] = []
        self.accepted: dict[int, int] = {}  # inode of a socket → descriptor that ACCEPT installed
        self.errors: deque[tuple[int, str]] = deque()  # answers to the next requests: errno and words
        self.silent = False
        self.overrun = False
        self.unread = 0  # READYs
        self.late: Accept | None = None  # a request that comes when READYs are read
        self.closed = False
        self.answers: deque[bytes] = deque()
        self.peers: list[socket.socket] = []
        self._ready, self._group = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)

    def submit(self, accept: Accept, *, ready: bool = True, malformed: bytes = b"") -> None:
        """A consumer asks for a handshake; READY may be lost."""
        self.pending.append(lambda sockfd: encode_accept_with(accept, sockfd) + malformed)
        if ready:
            self.unread += 1
            self._group.send(encode_message(FAMILY, 0, 0, 1, 1, struct.pack("=HHI", 8, 2, 1)))

    # the socket for requests

    def send(self, data: bytes, /) -> int:
        (message,) = decode_messages(data)
        assert message.type == FAMILY
        assert message.flags & 1, "NLM_F_REQUEST"
        command, version, attributes = message.generic()
        assert version == 1
        if self.silent:
            return len(data)
        if self.errors:
            self.error(message.sequence, *self.errors.popleft())
        elif command == 2:
            self._accept(message.sequence, attributes)
        elif command == 3:
            self._done(message.sequence, attributes)
        else:
            self.error(message.sequence, errno.EOPNOTSUPP)
        return len(data)

    def recv(self, size: int, /) -> bytes:
        if not self.answers:
            raise BlockingIOError(errno.EAGAIN, "nothing there")
        return self.answers.popleft()

    def fileno(self) -> int:
        raise AssertionError("the socket for requests is never waited for")

    def close(self) -> None:
        self.closed = True

    def error(self, sequence: int, code: int, text: str = "") -> None:
        """Answer with `struct nlmsgerr`."""
        header = b"\0" * 16
        words = struct.pack("=HH", 4 + len(text) + 1, 1) + text.encode() + b"\0" if text else b""
        payload = struct.pack("=i", -code) + header + words + b"\0" * (-len(words) % 4)
        flags = 0x100 | (0x200 if text else 0)
        self.answers.append(struct.pack("=IHHII", 16 + len(payload), NLMSG_ERROR, flags, sequence, 1) + payload)

    def _accept(self, sequence: int, attributes: bytes) -> None:
        if decode_attributes(attributes) != [(2, struct.pack("=I", 1))]:
            self.error(sequence, errno.EINVAL, "Unsupported attribute")
            return
        if not self.pending:
            self.error(sequence, errno.EAGAIN)
            return
        ours, theirs = socket.socketpair()
        sockfd = theirs.detach()
        self.peers.append(ours)
        self.accepted[os.fstat(sockfd).st_ino] = sockfd
        self.answers.append(encode_message(FAMILY, 0, sequence, 2, 1, self.pending.popleft()(sockfd)))

    def _done(self, sequence: int, attributes: bytes) -> None:
        if not {number for number, _ in decode_attributes(attributes)} <= {1, 2, 3}:
            self.error(sequence, errno.EINVAL, "Unknown attribute type")
            return
        done = decode_done(attributes)
        try:
            inode = os.fstat(done.sockfd).st_ino
        except OSError:
            self.error(sequence, errno.EBADF)
            return
        if self.accepted.pop(inode, None) is not None:
            self.done.append(done)
        self.error(sequence, 0)

    @property
    def ready(self) -> _Group:
        return _Group(self)


class _Group:
    """The socket in the group `tlshd`."""

    def __init__(self, kernel: FakeKernel) -> None:
        self._kernel = kernel
        self._socket = kernel._ready

    def send(self, data: bytes, /) -> int:
        raise AssertionError("nothing is sent on the group's socket")

    def recv(self, size: int, /) -> bytes:
        late, self._kernel.late = self._kernel.late, None
        if late is not None:
            self._kernel.submit(late)
        data = self._socket.recv(size)
        self._kernel.unread -= 1
        if self._kernel.overrun:
            self._kernel.overrun = False
            raise OSError(errno.ENOBUFS, "No buffer space available")
        return data

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()
        self._kernel._group.close()
        for peer in self._kernel.peers:
            peer.close()


def encode_accept_with(accept: Accept, sockfd: int) -> bytes:
    """The reply as the kernel builds it: SOCKFD first."""
    return struct.pack("=HHi", 8, 1, sockfd) + encode_accept(accept)
