"""Ask the guest's kernel for a handshake on a socket, as SunRPC and NVMe do: the ioctl of hsgen/hsgen.c.

The kernel sends the upcall to the handler of the socket's network namespace, and we wait for its DONE.
"""

from __future__ import annotations

import fcntl
import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import cache

DEVICE = "/dev/hsgen"
_ARGUMENTS = struct.Struct("=iIII iiiI 5i 256s I256s")  # struct hsgen_args, up to its results
_RESULTS = struct.Struct("=iiii Q")
_SIZE = _ARGUMENTS.size + _RESULTS.size
_HSGEN_RUN = 3 << 30 | _SIZE << 16 | ord("h") << 8 | 1  # _IOWR('h', 1, struct hsgen_args)
_HSGEN_RUN_PAIR = 3 << 30 | 2 * _SIZE << 16 | ord("h") << 8 | 2  # _IOWR('h', 2, struct hsgen_args[2])
_PEER_IDENTITIES = 5


class Kind(IntEnum):
    """`enum hsgen_type`: which of tls_client_hello_*() and tls_server_hello_*(), or what `attributes` say."""

    CLIENT_ANON = 0
    CLIENT_X509 = 1
    CLIENT_PSK = 2
    SERVER_X509 = 3
    SERVER_PSK = 4
    RAW = 5


@dataclass(frozen=True)
class Result:
    """How it ended. cancelled: the kernel's side gave up first; there is no status then."""

    submit_rc: int  # negative errno of a request that was not taken
    status: int  # of DONE: 0 or a negative errno
    peerid: int  # the first REMOTE_AUTH
    cancelled: bool
    seconds: float

    @property
    def succeeded(self) -> bool:
        return self.submit_rc == 0 and self.status == 0 and not self.cancelled


@dataclass(frozen=True)
class Request:
    """A handshake on the socket `fd`. wait_ms: when the kernel's side gives up (30 s if 0).

    attributes: for RAW, what ACCEPT's answer has besides SOCKFD.
    """

    fd: int
    kind: Kind
    peername: str = ""
    timeout_ms: int = 0
    wait_ms: int = 0
    keyring: int = 0
    cert: int = 0
    privkey: int = 0
    peerids: Sequence[int] = ()
    attributes: bytes = b""

    def encode(self) -> bytes:
        numbers = (self.fd, self.kind, self.timeout_ms, self.wait_ms, self.keyring, self.cert, self.privkey)
        padded = (*self.peerids, *[0] * (_PEER_IDENTITIES - len(self.peerids)))
        data = (self.peername.encode(), len(self.attributes), self.attributes)
        return _ARGUMENTS.pack(*numbers, len(self.peerids), *padded, *data) + bytes(_RESULTS.size)


def run(
    fd: int,
    kind: Kind,
    peername: str = "",
    timeout_ms: int = 0,
    *,
    keyring: int = 0,
    cert: int = 0,
    privkey: int = 0,
    peerids: Sequence[int] = (),
    wait_ms: int = 0,
    attributes: bytes = b"",
) -> Result:
    """One handshake."""
    request = Request(fd, kind, peername, timeout_ms, wait_ms, keyring, cert, privkey, peerids, attributes)
    arguments = bytearray(request.encode())
    fcntl.ioctl(_device(), _HSGEN_RUN, arguments)
    return _result(arguments, 0)


def run_pair(client: Request, server: Request) -> tuple[Result, Result]:
    """Both ends of a connection at once, by one call: where many run at once that takes half as many threads."""
    arguments = bytearray(client.encode() + server.encode())
    fcntl.ioctl(_device(), _HSGEN_RUN_PAIR, arguments)
    return _result(arguments, 0), _result(arguments, _SIZE)


@cache
def _device() -> int:
    return os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC)


def _result(arguments: bytearray, offset: int) -> Result:
    submit_rc, status, peerid, cancelled, nanoseconds = _RESULTS.unpack_from(arguments, offset + _ARGUMENTS.size)
    return Result(submit_rc, status, peerid & 0xFFFFFFFF, cancelled != 0, nanoseconds / 1e9)
