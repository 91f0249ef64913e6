"""A peer over TCP that is a program for a client and one for a server."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import Sequence
from contextlib import suppress

from quic_tlshd.request import Role
from tests.interop import ours, table
from tests.interop.ours import PAGE, Answers, Files, Visit
from tests.interop.peer import output_of, running
from tests.interop.table import Scenario


class TcpPeer:
    """Subclasses give the command lines. A server speaks HTTP as far as `answers` says."""

    name = ""

    def missing(self) -> str | None:
        return None

    def cannot(self, role: Role, scenario: Scenario) -> str | None:
        return None

    def prepare(self, files: Files) -> None:
        """Nothing to do, for most."""

    def client(self, port: int, scenario: Scenario, files: Files) -> Sequence[tuple[Sequence[object], bytes]]:
        """The commands to visit our server with, and the standard input of each; the last gets the page."""
        raise NotImplementedError

    def server(self, port: int, scenario: Scenario, files: Files) -> Sequence[object]:
        """The command that listens."""
        raise NotImplementedError

    def settling(self, scenario: Scenario) -> float:
        """Seconds that the server wants to be left alone at first."""
        return 0.0

    def answers(self, scenario: Scenario) -> Answers:
        return Answers.ALL

    async def run(self, role: Role, scenario: Scenario, files: Files) -> list[Visit]:
        return await (self._visits(scenario, files) if role is Role.SERVER else self._serves(scenario, files))

    async def _visits(self, scenario: Scenario, files: Files) -> list[Visit]:
        async with ours.serving(files, scenario) as server:
            said = [await output_of(*command) for command in self.client(server.port, scenario, files)]
            assert server.visits and PAGE in said[-1], f"we: {server.failures}; it:\n{said[-1]}"  # noqa: PT018
            return server.visits

    async def _serves(self, scenario: Scenario, files: Files) -> list[Visit]:
        port = free_port()
        async with running(self.server(port, scenario, files)) as program:
            await asyncio.sleep(self.settling(scenario))
            visiting = asyncio.create_task(ours.visit(port, files, scenario, self.answers(scenario)))
            await asyncio.wait([visiting, program.reading], return_when=asyncio.FIRST_COMPLETED)
            visiting.cancel()  # if it is the program that ended
            try:
                return await visiting
            except (Exception, asyncio.CancelledError) as error:
                raise AssertionError(f"we: {error!r}; it:\n{program.output}") from error


_given: set[int] = set()


def free_port() -> int:
    """One that neither another cell was given nor the kernel gives to clients: a program takes a while to listen."""
    while True:
        port = random.randrange(20_000, 32_000)
        if port in _given:
            continue
        _given.add(port)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


def twice(scenario: Scenario) -> bool:
    return scenario in (table.RESUMPTION, table.EARLY_DATA)
