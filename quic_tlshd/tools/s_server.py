"""python -m quic_tlshd.tools.s_server: a TLS 1.3 server to try clients on. It sends back what it gets."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence

from quic_tlshd.policy.credentials import CredentialError
from quic_tlshd.policy.ini import ConfigError
from quic_tlshd.request import Role
from quic_tlshd.tls.parameters import ClientCertificate
from quic_tlshd.tools import options as command_line
from quic_tlshd.tools import quic_messages
from quic_tlshd.tools.drive import describe, fail, handshake, reason
from quic_tlshd.tools.http import serve_page
from quic_tlshd.tools.policy import Setup
from quic_tlshd.tools.stream import TlsStream

_DESCRIPTION = """A TLS 1.3 server to try clients on, in the manner of openssl s_server. It sends back what it gets, or
with -www a page that says what was negotiated. A connection that fails costs one line on standard error."""
_BACKLOG = 512
_MAX_EARLY_DATA = 16384


def main(arguments: Sequence[str] | None = None) -> int:
    options = command_line_parser().parse_args(arguments)
    try:
        setup = Setup.load(options, Role.SERVER)
    except (ConfigError, CredentialError) as error:
        print(f"s_server: {error}", file=sys.stderr)  # noqa: T201
        return 2
    for warning in setup.warnings:
        print(f"s_server: {warning}", file=sys.stderr)  # noqa: T201
    try:
        return asyncio.run(quic_messages.run(setup) if options.quic_messages else Server(setup).run())
    except KeyboardInterrupt:
        return 0
    except OSError as error:
        print(f"s_server: {error}", file=sys.stderr)  # noqa: T201
        return 1


def command_line_parser() -> argparse.ArgumentParser:
    parser = command_line.parser("s_server", _DESCRIPTION, quic_messages.__doc__ or "")
    add = parser.add_argument
    add("-accept", type=command_line.address("127.0.0.1"), default=("127.0.0.1", 4433), metavar="[HOST:]PORT",
        help="where to listen (default: 127.0.0.1:4433); port 0 for any")  # fmt: skip
    add("-port", type=int, metavar="PORT", help="the same, on 127.0.0.1")
    parser.set_defaults(client_certificate=ClientCertificate.NONE)
    wish = parser.add_mutually_exclusive_group()
    for option, value, text in (
        ("-verify", ClientCertificate.REQUEST, "ask clients for a certificate"),
        ("-Verify", ClientCertificate.REQUIRE, "require one"),
    ):
        wish.add_argument(option, dest="client_certificate", action="store_const", const=value, help=text)
    add("-num_tickets", type=int, default=2, metavar="N", help="tickets to issue to a client (default: %(default)s)")
    add("-no_ticket", dest="num_tickets", action="store_const", const=0, help="issue none")
    add("-early_data", dest="max_early_data", action="store_const", const=_MAX_EARLY_DATA, default=0, help="take some")
    add("-max_early_data", type=int, default=0, metavar="N", help="take early data, so many bytes at most")
    add("-www", action="store_true", help="answer a request with a page that says what was negotiated (HTTP/1.0)")
    add("-naccept", type=int, metavar="N", help="end after that many connections")
    return parser


class Server:
    """Serves connections until `-naccept` of them have ended."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._left = setup.options.naccept
        self._tasks: set[asyncio.Task[None]] = set()
        self._ended = asyncio.Event()

    async def run(self) -> int:
        """Give the exit status."""
        options = self._setup.options
        host, port = options.accept if options.port is None else ("127.0.0.1", options.port)
        server = await asyncio.start_server(self._accept, host, port, backlog=_BACKLOG)
        async with server:
            host, port = server.sockets[0].getsockname()[:2]
            print(f"ACCEPT {host}:{port}", flush=True)  # noqa: T201
            await self._ended.wait()
        return 0

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection; whatever becomes of it, it ends no other."""
        if self._left == 0:
            writer.close()
            return
        self._left = None if self._left is None else self._left - 1
        task = asyncio.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        await asyncio.wait([task])
        self._tasks.discard(task)
        if self._left == 0 and not self._tasks:
            self._ended.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        options = self._setup.options
        peer = "{} port {}".format(*(writer.get_extra_info("peername") or ("nobody", 0))[:2])
        stream = TlsStream(
            reader,
            writer,
            record_size_limit=options.record_size_limit,
            max_send_frag=options.max_send_frag,
            padding=options.record_padding,
            timeout=options.timeout,
        )
        try:
            async with asyncio.timeout(options.timeout):
                engine, complete = await handshake(self._setup, stream)
            stream.go_on(engine)
            if not options.quiet:
                self._say(f"{peer}: {describe(complete)}")
            if options.www:
                await serve_page(stream, complete)
            else:
                await echo(stream)
        except Exception as error:  # noqa: BLE001 -- a peer's doing or ours, it ends this connection only
            self._say(f"{peer}: failed: {reason(error)}")
            await fail(stream, error)
        finally:
            stream.close()

    def _say(self, line: str) -> None:
        print(line, file=sys.stderr, flush=True)  # noqa: T201


async def echo(stream: TlsStream) -> None:
    """Send back what comes, until the peer's close_notify."""
    while data := await stream.read():
        await stream.write(data)
    await stream.end()


if __name__ == "__main__":
    sys.exit(main())
