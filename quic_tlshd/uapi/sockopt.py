"""getsockopt(2) for values of any length: that of `socket.socket` refuses to take more than 1024 bytes."""

from __future__ import annotations

import ctypes
import os
import socket

_libc = ctypes.CDLL(None, use_errno=True)


def getsockopt(fd: int, level: int, optname: int, size: int) -> bytes:
    """The option's value, of at most `size` bytes."""
    value = ctypes.create_string_buffer(size)
    length = ctypes.c_uint32(size)
    if _libc.getsockopt(fd, level, optname, value, ctypes.byref(length)) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return value.raw[: length.value]


class LongOptionsSocket(socket.socket):
    """A socket whose options can be long."""

    def getsockopt(self, level: int, optname: int, buflen: int) -> bytes:  # type: ignore[override]
        return getsockopt(self.fileno(), level, optname, buflen)
