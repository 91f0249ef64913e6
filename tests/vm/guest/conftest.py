"""What the scenarios share: two network namespaces, the handlers in them, and the table at the end."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.peers.pki import Authority
from tests.vm.guest import handlers, hsgen, netns
from tests.vm.guest.handlers import Handler
from tests.vm.guest.hsgen import Kind, Result

IN_GUEST = os.path.exists(hsgen.DEVICE)
# make test, on the host, finds these files too.
collect_ignore_glob = [] if IN_GUEST else ["test_*.py"]

PAIRS = [(client, server) for client in handlers.NAMES for server in handlers.NAMES]


@dataclass(frozen=True)
class Credentials:
    """A root, and a certificate for each side, in the form that both handlers' configuration has."""

    directory: Path
    authority: Authority

    def section(self, side: str) -> dict[str, str]:
        """[authenticate.client] or [authenticate.server]."""
        files = {"truststore": "root.pem", "certificate": f"{side}.pem", "private_key": f"{side}.key"}
        return {f"x509.{key}": str(self.directory / name) for key, name in files.items()}

    def config(self) -> dict[str, dict[str, str]]:
        return {f"authenticate.{side}": self.section(side) for side in netns.NAMES}


@dataclass(frozen=True)
class Handlers:
    """Who answers on each side; running."""

    client: Handler
    server: Handler

    def handshake(
        self, kinds: tuple[Kind, Kind], ends: tuple[int, int], *, client_peerids: tuple[int, ...] = (), **options: object
    ) -> tuple[Result, Result]:
        """Both sides' upcalls at once, on the two descriptors of a connection: the client's result and the server's."""
        with ThreadPoolExecutor(2) as pool:
            server_peerids = (0,) if kinds[1] is Kind.SERVER_PSK else ()
            server = pool.submit(hsgen.run, ends[1], kinds[1], peerids=server_peerids, **options)
            client = pool.submit(
                hsgen.run, ends[0], kinds[0], netns.NAMES["server"], peerids=client_peerids, **options
            )
            return client.result(), server.result()

    def report(self) -> str:
        """Both logs, for a test that failed."""
        return "\n".join(
            line
            for handler in (self.client, self.server)
            for line in (f"--- log of the {handler.side}'s handler:", *handler.log())
        )


@pytest.fixture(scope="session", autouse=True)
def namespaces() -> Iterator[None]:
    netns.create()
    yield
    netns.remove()


@pytest.fixture(scope="session")
def credentials(tmp_path_factory: pytest.TempPathFactory) -> Credentials:
    directory = tmp_path_factory.mktemp("credentials")
    authority = Authority("scenarios")
    authority.write(directory / "root.pem")
    for side, name in netns.NAMES.items():
        authority.issue((name,), usage=side).write(directory, side)
    return Credentials(directory, authority)


@pytest.fixture(scope="session", params=PAIRS, ids=lambda pair: f"{pair[0]}--{pair[1]}")
def pair(request: pytest.FixtureRequest, credentials: Credentials) -> Iterator[Handlers]:
    """Each pair of handlers in turn, the client's side first; they run as long as tests ask for the same pair."""
    with tempfile.TemporaryDirectory(prefix="handlers-") as name:
        started: list[Handler] = []
        try:
            for side, handler in zip(netns.NAMES, request.param, strict=True):
                directory = Path(name) / side
                directory.mkdir()
                started.append(handlers.HANDLERS[handler](side, directory, credentials.config()))
                started[-1].start()
            yield Handlers(*started)
        finally:
            for handler in started:
                handler.stop()
