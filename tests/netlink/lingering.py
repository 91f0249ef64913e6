"""A TCP socket whose last close waits, until its peer goes or the time is over."""

from __future__ import annotations

import socket
import struct
from types import TracebackType


class Lingering:
    """SO_LINGER with data that the peer does not read."""

    seconds = 10

    def __init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.sock = socket.create_connection(listener.getsockname())
            self._peer, _ = listener.accept()
        self.sock.setblocking(False)
        try:
            while True:
                self.sock.send(b"x" * 65536)
        except BlockingIOError:
            pass
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, self.seconds))
        self.sock.setblocking(True)  # a socket that does not block does not linger

    def fileno(self) -> int:
        return self.sock.fileno()

    def detach(self) -> int:
        return self.sock.detach()

    def release(self) -> None:
        """Nothing lingers any more."""
        if self._peer.fileno() == -1:
            return
        self._peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._peer.close()

    def __enter__(self) -> Lingering:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
        self.sock.close()
