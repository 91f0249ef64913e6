"""python -m quic_tlshd.tools.s_client: a TLS 1.3 client to try servers with."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from quic_tlshd.policy.credentials import CredentialError
from quic_tlshd.policy.ini import ConfigError
from quic_tlshd.request import Role
from quic_tlshd.tls.iana import NamedGroup
from quic_tlshd.tools import options as command_line
from quic_tlshd.tools import quic_messages
from quic_tlshd.tools.drive import describe, fail, handshake, reason
from quic_tlshd.tools.pipe import standard_input
from quic_tlshd.tools.policy import Setup
from quic_tlshd.tools.stream import TlsStream

_DESCRIPTION = """A TLS 1.3 client to try servers with, in the manner of openssl s_client: it sends its standard input
and prints what comes back, until the server has nothing more to say. Servers are verified unless -noverify is given.
Without -quiet, a line that is just k, K or Q sends a KeyUpdate, sends one that asks for another, or ends the input."""
_CHUNK = 1 << 16


def main(arguments: Sequence[str] | None = None) -> int:
    options = command_line_parser().parse_args(arguments)
    try:
        setup = Setup.load(options, Role.CLIENT)
    except (ConfigError, CredentialError) as error:
        print(f"s_client: {error}", file=sys.stderr)  # noqa: T201
        return 2
    for warning in setup.warnings:
        print(f"s_client: {warning}", file=sys.stderr)  # noqa: T201
    try:
        return asyncio.run(quic_messages.run(setup) if options.quic_messages else run(setup))
    except KeyboardInterrupt:
        return 1


def command_line_parser() -> argparse.ArgumentParser:
    parser = command_line.parser("s_client", _DESCRIPTION, quic_messages.__doc__ or "")
    add = parser.add_argument
    add("-connect", type=command_line.address("localhost"), default=("localhost", 4433), metavar="[HOST:]PORT",
        help="the server (default: localhost:4433)")  # fmt: skip
    add("-servername", metavar="NAME", help="the server name to send (default: the one to verify)")
    add("-noservername", action="store_true", help="send none")
    add("-verify_hostname", metavar="NAME", help="the name that the certificate must be for (default: the host's)")
    add("-key_shares", type=command_line.code_points(NamedGroup), default=(), metavar="LIST",
        help="groups to send a share of at once, separated by colons")  # fmt: skip
    add("-sess_out", type=Path, metavar="FILE", help="keep the session there, to resume it; it is a secret")
    file: dict[str, Any] = {"type": command_line.contents, "default": b"", "metavar": "FILE"}
    add("-sess_in", **file, help="resume the session that is kept there")
    add("-early_data", **file, help="send that first, as early data if the session allows it")
    add("-no_ticket", action="store_true", help="ask for no tickets")
    add("-allow_no_dhe_kex", action="store_true", help="offer to use PSKs without (EC)DHE (psk_ke)")
    add("-no_middlebox", action="store_true", help="do without middlebox compatibility mode")
    return parser


async def run(setup: Setup) -> int:
    """Connect, and carry data both ways; give the exit status."""
    options = setup.options
    try:
        reader, writer = await asyncio.open_connection(*options.connect)
    except OSError as error:
        print(f"s_client: {error}", file=sys.stderr)  # noqa: T201
        return 1
    stream = TlsStream(
        reader,
        writer,
        record_size_limit=options.record_size_limit,
        max_send_frag=options.max_send_frag,
        padding=options.record_padding,
        early_data=options.early_data,
    )
    try:
        async with asyncio.timeout(options.timeout):
            engine, complete = await handshake(setup, stream)
        stream.go_on(engine, setup.keep)
        if not options.quiet:
            print(describe(complete), file=sys.stderr, flush=True)  # noqa: T201
        sending = asyncio.create_task(_send_input(stream, commands=not options.quiet))
        try:
            while data := await stream.read():
                sys.stdout.buffer.write(data)
                sys.stdout.buffer.flush()
        finally:
            sending.cancel()
            with suppress(asyncio.CancelledError):
                await sending
    except Exception as error:  # noqa: BLE001 -- a peer's doing or ours, it is told in one line
        print(f"failed: {reason(error)}", file=sys.stderr, flush=True)  # noqa: T201
        await fail(stream, error)
        return 1
    finally:
        stream.close()
    return 0


async def _send_input(stream: TlsStream, *, commands: bool) -> None:
    """Send standard input, line by line where lines may be commands, and close_notify behind it."""
    source = await standard_input()
    while data := await (source.readline() if commands else source.read(_CHUNK)):
        command = data.strip() if commands else b""
        if command == b"Q":
            break
        if command in (b"k", b"K"):
            await stream.update_keys(request=command == b"K")
        else:
            await stream.write(data)
    await stream.end()


if __name__ == "__main__":
    sys.exit(main())
