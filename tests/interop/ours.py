"""Our side of a cell over TCP: what s_server and s_client are made of, in this process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from enum import Enum
from functools import cache
from itertools import count
from pathlib import Path

from quic_tlshd.endpoint.interface import EndpointError, TransportEvent
from quic_tlshd.request import Role
from quic_tlshd.tls.events import Complete, SendMessage
from quic_tlshd.tls.iana import NamedGroup
from quic_tlshd.tls.parameters import Level
from quic_tlshd.tls.ticket import Session
from quic_tlshd.tools import s_client, s_server
from quic_tlshd.tools.drive import fail, handshake, reason
from quic_tlshd.tools.http import serve_page
from quic_tlshd.tools.policy import Setup
from quic_tlshd.tools.stream import TlsStream
from tests.interop import table
from tests.interop.table import KEY_TYPES, Scenario
from tests.peers import pki

NAME = "a.example"
TIMEOUT = 30.0
PSK_IDENTITY, PSK = "Client_identity", "5a" * 32
REQUEST = b"GET / HTTP/1.0\r\n\r\n"
PAGE = "<title>s_server</title>"
RETRY_GROUP = NamedGroup.SECP384R1  # of which no peer sends a share at first
ROOT = pki.Authority("the interop root")


_NUMBERS = count()


class Answers(Enum):
    """What a server answers: a request, also as early data; one that does not come as early data; nothing."""

    ALL = "all"
    LATER = "later"
    NONE = "none"


@cache
def issued(key_type: str, usage: str) -> pki.Issued:
    return ROOT.issue_pss(NAME) if key_type == "rsapss" else ROOT.issue((NAME,), key_type=key_type, usage=usage)


@dataclass(frozen=True)
class Files:
    """The certificates of a run, in files; each is written when it is first asked for."""

    directory: Path

    @property
    def root(self) -> Path:
        path = self.directory / "root.pem"
        return path if path.exists() else ROOT.write(path)

    @property
    def request(self) -> Path:
        path = self.directory / "request"
        path.write_bytes(REQUEST)
        return path

    def identity(self, usage: str, scenario: Scenario = table.FULL) -> tuple[Path, Path]:
        """A certificate chain and its key; a server's is of the scenario's type."""
        key_type = "p256" if scenario.scheme is None else KEY_TYPES[scenario.scheme]
        paths = self.directory / f"{usage}-{key_type}.pem", self.directory / f"{usage}-{key_type}.key"
        return paths if paths[1].exists() else issued(key_type, usage).write(self.directory, f"{usage}-{key_type}")

    def fresh(self, name: str) -> Path:
        """The path of a file that is not there yet."""
        return self.directory / f"{next(_NUMBERS)}-{name}"


@dataclass
class Visit:
    """One connection of ours that succeeded. answer: what a server answered."""

    complete: Complete
    retried: bool
    answer: bytes = b""


class Watched(TlsStream):
    """A stream that remembers whether there was a HelloRetryRequest."""

    hellos = 0

    async def apply(self, event: TransportEvent) -> None:
        self.hellos += isinstance(event, SendMessage) and event.level is Level.INITIAL
        await super().apply(event)


def check(scenario: Scenario, role: Role, visits: list[Visit]) -> None:
    """That what the scenario is about has happened."""
    assert visits, "no handshake succeeded"
    last = visits[-1]
    done = last.complete
    if scenario.group is None:  # a client may have sent no share of that
        assert last.retried == (scenario == table.RETRY), "a HelloRetryRequest, or none"
    if scenario in (table.RESUMPTION, table.EARLY_DATA):
        assert len(visits) > 1, "one connection only"
        assert [visit.complete.resumed for visit in visits] == [False, True], "not resumed"
        assert done.early_data == (scenario == table.EARLY_DATA), "early data"
    else:
        assert not done.resumed
    if scenario == table.CLIENT_CERTIFICATE and role is Role.SERVER:
        assert done.peer_chain
        assert done.peer_chain[0] == issued("p256", "client").chain[0]
    assert done.psk_identity == (PSK_IDENTITY.encode() if scenario == table.EXTERNAL_PSK else None)
    if scenario.group is not None:
        assert done.group is scenario.group
    if scenario.scheme is not None:
        assert done.signature_scheme is scenario.scheme


# our server


@dataclass
class Server:
    port: int = 0
    visits: list[Visit] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


def server_options(files: Files, scenario: Scenario) -> Iterator[object]:
    if scenario == table.EXTERNAL_PSK:
        yield from ("-psk", PSK, "-psk_identity", PSK_IDENTITY)
    else:
        yield from zip(("-cert", "-key"), files.identity("server", scenario), strict=True)
    if scenario.scheme is not None:
        yield from ("-sigalgs", scenario.scheme.name)
    if scenario.group is not None or scenario == table.RETRY:
        yield from ("-groups", (scenario.group or RETRY_GROUP).name)
    if scenario == table.CLIENT_CERTIFICATE:
        yield from ("-Verify", "-CAfile", files.root)
    if scenario == table.EARLY_DATA:
        yield "-early_data"


@asynccontextmanager
async def serving(files: Files, scenario: Scenario) -> AsyncIterator[Server]:
    """s_server -www for the scenario."""
    options = s_server.command_line_parser().parse_args(flat(server_options(files, scenario)))
    setup = Setup.load(options, Role.SERVER)
    ours = Server()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        stream = Watched(reader, writer, timeout=TIMEOUT)
        try:
            async with asyncio.timeout(TIMEOUT):
                engine, complete = await handshake(setup, stream)
            ours.visits.append(Visit(complete, stream.hellos > 1))
            stream.go_on(engine)
            await serve_page(stream, complete)
        except Exception as error:  # noqa: BLE001 -- what a peer may do is no reason to end
            ours.failures.append(reason(error))
            with suppress(EndpointError):
                await fail(stream, error)
        finally:
            stream.close()

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    async with server:
        ours.port = server.sockets[0].getsockname()[1]
        yield ours


# our client


def client_options(files: Files, scenario: Scenario) -> Iterator[object]:
    yield from ("-CAfile", files.root, "-verify_hostname", NAME)
    if scenario == table.EXTERNAL_PSK:
        yield from ("-psk", PSK, "-psk_identity", PSK_IDENTITY)
    if scenario.scheme is not None:
        yield from ("-sigalgs", scenario.scheme.name)
    if scenario.group is not None:
        yield from ("-groups", scenario.group.name)
    if scenario == table.RETRY:
        yield from ("-groups", f"x25519:{RETRY_GROUP.name}", "-key_shares", "x25519")
    if scenario == table.CLIENT_CERTIFICATE:
        yield from zip(("-cert", "-key"), files.identity("client"), strict=True)
    if scenario == table.EARLY_DATA:
        yield from ("-early_data", files.request)


async def visit(port: int, files: Files, scenario: Scenario, answers: Answers) -> list[Visit]:
    """s_client for the scenario, twice if it is about sessions."""
    arguments = ["-connect", f"127.0.0.1:{port}", *flat(client_options(files, scenario))]
    options = s_client.command_line_parser().parse_args(arguments)
    setup, visits = Setup.load(options, Role.CLIENT), []
    for early_data in (b"", options.early_data) if scenario in (table.RESUMPTION, table.EARLY_DATA) else (b"",):
        options.early_data = early_data
        sessions: list[bytes] = []
        visits.append(await _visit(port, setup, sessions, early_data, answers))
        options.sess_in = sessions[-1] if sessions else b""
        assert not sessions or Session.decode(sessions[-1]) is not None
    return visits


async def _visit(port: int, setup: Setup, sessions: list[bytes], early_data: bytes, answers: Answers) -> Visit:
    async with asyncio.timeout(TIMEOUT):
        stream = Watched(*await _connect(port), early_data=early_data)
        try:
            engine, complete = await handshake(setup, stream)
            visit = Visit(complete, stream.hellos > 1)
            stream.go_on(engine, sessions.append)
            if answers is Answers.NONE:
                await stream.end()
            elif answers is Answers.LATER or not early_data:
                await stream.write(REQUEST)
            with suppress(EndpointError):  # not everybody says close_notify
                while data := await stream.read():
                    visit.answer += data
            assert visit.answer.startswith(b"HTTP/1.") == (answers is not Answers.NONE), visit.answer
        except Exception as error:
            await fail(stream, error)
            raise
        finally:
            stream.close()
    return visit


async def _connect(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """To a program that may not listen yet."""
    while True:
        try:
            return await asyncio.open_connection("127.0.0.1", port)
        except ConnectionRefusedError:
            await asyncio.sleep(0.02)


def flat(options: Iterable[object]) -> list[str]:
    """As a command line has them: pairs beside single ones."""
    parts: list[str] = []
    for option in options:
        parts += map(str, option if isinstance(option, tuple) else (option,))
    return parts
