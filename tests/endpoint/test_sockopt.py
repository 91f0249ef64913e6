"""getsockopt with room for more than Python's has."""

from __future__ import annotations

import errno
import socket
import struct

import pytest

from quic_tlshd.uapi.sockopt import LongOptionsSocket


def test_a_buffer_larger_than_pythons() -> None:
    with LongOptionsSocket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE, 4096) == struct.pack("=i", socket.SOCK_SEQPACKET)
        with pytest.raises(OSError, match="not available") as refused:
            sock.getsockopt(socket.SOL_SOCKET, 9999, 4096)
    assert refused.value.errno == errno.ENOPROTOOPT
