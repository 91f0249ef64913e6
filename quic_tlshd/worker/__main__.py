"""The worker process: ``python -m quic_tlshd.worker FD LOGLEVEL KEYLOG``, started by the monitor. FD is its channel,
KEYLOG the descriptor of the key log or -1."""

from __future__ import annotations

import asyncio
import gc
import resource
import signal
import socket
import sys
from contextlib import suppress

import keyctl2

from quic_tlshd import log
from quic_tlshd.uapi.prctl import protect_memory
from quic_tlshd.worker.worker import Worker


async def serve(fd: int, key_log: int) -> None:
    # The monitor decides when we end (it closes the channel): a terminal's ^C must not end handshakes before that.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    await Worker(socket.socket(fileno=fd), key_log).ended


def main() -> None:
    fd, level, key_log = map(int, sys.argv[1:])
    log.set_up(level)
    protect_memory()
    resource.setrlimit(resource.RLIMIT_RTPRIO, (0, 0))  # only the monitor may run before others
    with suppress(OSError):
        keyctl2.join_session_keyring()  # the monitor's has keyrings with PSKs linked into it, and exec keeps it
    gc.freeze()  # what is loaded now stays: later collections need not look at it
    asyncio.run(serve(fd, key_log))


if __name__ == "__main__":
    main()
