"""What a TLS implementation is to the table, and how its programs are run."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Protocol

from quic_tlshd.request import Role
from tests.interop.ours import TIMEOUT, Files, Visit
from tests.interop.table import Scenario


class Peer(Protocol):
    """name: as the table has it."""

    name: str

    def missing(self) -> str | None:
        """What this machine lacks to run it."""
        ...

    def cannot(self, role: Role, scenario: Scenario) -> str | None:
        """Why there is nothing to try, where that is so. role: ours."""
        ...

    def prepare(self, files: Files) -> None:
        """Make ready what all cells need."""

    async def run(self, role: Role, scenario: Scenario, files: Files) -> list[Visit]:
        """Do it; give our view of each connection."""
        ...


class Program:
    """A program that runs; output: what it has said so far, on either stream. reading: is done when it has ended."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.output = ""
        self.reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self.process.stdout is not None
        while data := await self.process.stdout.read(1 << 16):
            self.output += data.decode(errors="replace")

    async def ended(self) -> int:
        """Wait for its end, and give its status."""
        await self.reading
        return await self.process.wait()

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.process.pid, signal.SIGKILL)  # process.kill() would reap it, and asyncio then miss it


@asynccontextmanager
async def running(command: Sequence[object], *, given: bytes | None = None) -> AsyncIterator[Program]:
    """given: its standard input, None to keep it open and empty."""
    process = await asyncio.create_subprocess_exec(
        *map(str, command),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    program = Program(process)
    try:
        assert process.stdin is not None
        if given is not None:
            with suppress(ConnectionError):
                process.stdin.write(given)
                await process.stdin.drain()
                process.stdin.close()
        yield program
    finally:
        program.kill()
        await program.ended()
        assert process.stdin is not None
        process.stdin.close()


async def output_of(command: Sequence[object], given: bytes = b"") -> str:
    """All that it says until it ends."""
    async with asyncio.timeout(TIMEOUT), running(command, given=given) as program:
        await program.ended()
        return program.output
