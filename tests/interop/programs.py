"""OpenSSL's and GnuTLS's command line programs as TLS peers."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest

from quic_tlshd.tls.alert import AlertDescription as A
from quic_tlshd.tls.iana import CipherSuite, NamedGroup
from tests.interop.party import NAME, TIMEOUT, UserspaceTls


def needs(program: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"{program} is not installed")


class Program:
    """A running program; `output` is what it has printed so far, errors included."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.output = ""

    async def until(self, text: str) -> str:
        """Read until it has printed `text`; the last line so far, which starts with or after it."""
        assert self._process.stdout is not None
        async with asyncio.timeout(TIMEOUT):
            while text not in self.output:
                data = await self._process.stdout.read(4096)
                assert data, f"it ended without saying {text!r}; it said:\n{self.output}"
                self.output += data.decode(errors="replace")
        return self.output[self.output.index(text) :].splitlines()[0]

    async def say(self, line: bytes) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + b"\n")
        await self._process.stdin.drain()


@asynccontextmanager
async def run(*command: object) -> AsyncIterator[Program]:
    process = await asyncio.create_subprocess_exec(
        *map(str, command),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        yield Program(process)
    finally:
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)  # process.kill() would reap it, and asyncio then wonder where it went
        await process.communicate()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


async def connect(port: int) -> socket.socket:
    """A connection to a program that may not listen yet."""
    async with asyncio.timeout(TIMEOUT):
        while True:
            try:
                return socket.create_connection(("127.0.0.1", port), timeout=None)
            except ConnectionRefusedError:
                await asyncio.sleep(0.02)


@asynccontextmanager
async def accepting() -> AsyncIterator[tuple[int, asyncio.Future[socket.socket]]]:
    """A port, and the first connection to it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)

        async def accept() -> socket.socket:
            sock, _ = await asyncio.get_running_loop().sock_accept(listener)
            return sock

        task = asyncio.create_task(accept())
        try:
            yield listener.getsockname()[1], task
        finally:
            task.cancel()
            for result in await asyncio.gather(task, return_exceptions=True):
                if isinstance(result, socket.socket):
                    result.close()


@dataclass(frozen=True)
class Wish:
    """What a program shall do. trust: the file of the root that it trusts. groups: a client sends a share of the first
    only. require: a server that wants a client certificate."""

    trust: Path
    identity: tuple[Path, Path] | None = None
    name: str = NAME
    alpn: str | None = None
    cipher_suite: CipherSuite | None = None
    groups: tuple[NamedGroup, ...] = ()
    require: bool = False
    extra: tuple[str, ...] = ()


class OpenSsl:
    """openssl s_client and s_server. They print what comes over the connection and send what they are told."""

    name = "openssl"
    alerts: ClassVar = {
        A.UNKNOWN_CA: "SSL alert number 48",
        A.CERTIFICATE_REQUIRED: "SSL alert number 116",
        A.HANDSHAKE_FAILURE: "SSL alert number 40",
        A.CERTIFICATE_EXPIRED: "SSL alert number 45",
    }

    def client(self, port: int, wish: Wish) -> list[object]:
        command: list[object] = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-CAfile", wish.trust]
        command += ["-verify_return_error", "-verify_hostname", wish.name, "-servername", wish.name]
        return command + self._common(wish)

    def server(self, port: int, wish: Wish) -> list[object]:
        command: list[object] = ["openssl", "s_server", "-accept", f"127.0.0.1:{port}", "-naccept", "1"]
        if wish.require:
            command += ["-Verify", "3", "-verify_return_error", "-CAfile", wish.trust]
        return command + self._common(wish)

    def _common(self, wish: Wish) -> list[object]:
        groups = {NamedGroup.X25519: "X25519", NamedGroup.SECP256R1: "P-256", NamedGroup.SECP384R1: "P-384"}
        options: list[object] = [*wish.extra]
        if wish.identity is not None:
            certificate, key = wish.identity
            options += ["-cert", certificate, "-key", key]
        if wish.alpn is not None:
            options += ["-alpn", wish.alpn]
        if wish.cipher_suite is not None:
            options += ["-ciphersuites", wish.cipher_suite.name]
        if wish.groups:
            options += ["-groups", ":".join([groups[group] for group in wish.groups])]
        return options

    async def exchange(self, program: Program, connection: UserspaceTls, *, server: bool) -> None:
        """A line each way."""
        await connection.write(b"from us\n")
        await program.until("from us\n")
        await program.say(b"from them")
        assert await connection.read() == b"from them\n"


class GnuTls:
    """gnutls-cli and gnutls-serv. The server sends back what comes."""

    name = "gnutls-cli"
    alerts: ClassVar = {
        A.UNKNOWN_CA: "CA is unknown",
        A.CERTIFICATE_REQUIRED: "Certificate is required",
        A.HANDSHAKE_FAILURE: "Handshake failed",
        A.CERTIFICATE_EXPIRED: "Certificate is expired",
    }

    def client(self, port: int, wish: Wish) -> list[object]:
        command: list[object] = ["gnutls-cli", "--port", port, "--x509cafile", wish.trust, "--single-key-share"]
        command += ["--sni-hostname", wish.name, "--verify-hostname", wish.name]
        return [*command, *self._common(wish), "127.0.0.1"]

    def server(self, port: int, wish: Wish) -> list[object]:
        command: list[object] = ["gnutls-serv", "--port", port, "--echo", "--x509cafile", wish.trust]
        command += ["--debug", "5"]  # or it would not say which alert came
        command += ["--require-client-cert", "--verify-client-cert"] if wish.require else ["--disable-client-cert"]
        return command + self._common(wish)

    def _common(self, wish: Wish) -> list[object]:
        options: list[object] = [*wish.extra]
        if wish.identity is not None:
            certificate, key = wish.identity
            options += ["--x509certfile", certificate, "--x509keyfile", key]
        if wish.alpn is not None:
            options += ["--alpn", wish.alpn]
        priority = "NORMAL:-VERS-ALL:+VERS-TLS1.3"
        if wish.cipher_suite is not None:
            cipher = wish.cipher_suite.name.removeprefix("TLS_").rpartition("_")[0].replace("_", "-")
            priority += f":-CIPHER-ALL:+{cipher}"
        if wish.groups:
            priority += ":-GROUP-ALL" + "".join([f":+GROUP-{group.name}" for group in wish.groups])
        return [*options, "--priority", priority]

    async def exchange(self, program: Program, connection: UserspaceTls, *, server: bool) -> None:
        """A line each way."""
        await connection.write(b"from us\n")
        if server:
            assert await connection.read() == b"from us\n"
            return
        await program.until("from us\n")
        await program.say(b"from them")
        assert await connection.read() == b"from them\n"
