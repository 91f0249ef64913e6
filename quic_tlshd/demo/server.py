"""The demo's server process: ``python -m quic_tlshd.demo.server SOCKET`` serves both applications on one UDP port.

It says its port on standard output and ends with its standard input. Nothing here could find a key: the only thing that
it is told is where the daemon's upcall socket is, and aioquic's own TLS is made unusable.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from typing import NoReturn

import aioquic.tls
from aioquic.quic.configuration import QuicConfiguration

from quic_tlshd.adapters.aioquic import serve
from quic_tlshd.demo.applications import APPLICATIONS, ByAlpn

HOST = "127.0.0.1"


def _forbidden(*_: object, **__: object) -> NoReturn:
    raise RuntimeError("this process was about to do TLS itself")


async def run(socket: str) -> None:
    configuration = QuicConfiguration(is_client=False, alpn_protocols=list(APPLICATIONS))
    server = await serve(HOST, 0, configuration=configuration, create_protocol=ByAlpn, daemon=socket)
    sys.stdout.write(f"{server.port}\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.read)
    server.close()


def main() -> None:
    logging.basicConfig(level=logging.WARNING)
    logging.getLogger("quic").setLevel(logging.ERROR)  # aioquic warns of whatever peers do wrong
    aioquic.tls.Context.__init__ = _forbidden  # type: ignore[method-assign]
    asyncio.run(run(sys.argv[1]))


if __name__ == "__main__":
    main()
