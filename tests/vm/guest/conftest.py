"""What the scenarios share: the network namespaces, the handlers in them, and the table at the end."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from tests.peers.pki import Authority
from tests.vm.guest import handlers, hsgen, netns, nfs, nvme
from tests.vm.guest.handlers import Handler
from tests.vm.guest.scenario import Credentials, Handlers

# make test, on the host, finds these files too.
collect_ignore_glob = [] if os.path.exists(hsgen.DEVICE) else ["test_*.py"]

PAIRS = [(client, server) for client in handlers.HANDLERS for server in handlers.HANDLERS]
LOG_TAIL = 40  # lines of a handler's log that a failed scenario shows

# Scenario, client's handler, server's handler, result, seconds.
rows: list[tuple[str, str, str, str, float]] = []


def name_of(pair: tuple[str, str]) -> str:
    return "--".join(pair)


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
    return Credentials(directory)


@pytest.fixture(scope="session", params=PAIRS, ids=name_of)
def pair(request: pytest.FixtureRequest, credentials: Credentials) -> Iterator[Handlers]:
    """Each pair of handlers in turn, the client's side first; they run as long as scenarios ask for the same pair."""
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
            for each in started:
                each.stop()


@pytest.fixture(scope="session")
def nfs_server() -> Iterator[None]:
    with nfs.serving():
        yield


@pytest.fixture(scope="session")
def nvme_target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with nvme.serving(tmp_path_factory.mktemp("nvme")):
        yield


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the handlers' logs with a failure, and remember the scenario for the table."""
    report = yield
    running = getattr(item, "funcargs", {}).get("pair")
    if report.failed and isinstance(running, Handlers):
        for handler in running:
            title = f"end of the log of {handler.name}, the {handler.side}'s handler"
            report.sections.append((title, "\n".join(handler.log()[-LOG_TAIL:])))
    if report.when == "call" or report.failed:
        parameters = getattr(item, "callspec", None)
        client, server = parameters.params.get("pair", ("", "")) if parameters is not None else ("", "")
        scenario = item.name.partition("[")[0].removeprefix("test_").replace("_", " ")
        title = f"{item.path.stem.removeprefix('test_')}: {scenario}"
        result = report.outcome if report.when == "call" else f"{report.when} {report.outcome}"
        rows.append((title, client, server, result, report.duration))
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not rows:
        return
    terminalreporter.section("scenarios")
    header = ("scenario", "client's handler", "server's handler", "result", "seconds")
    cells = [header, *((*row[:4], f"{row[4]:.2f}") for row in sorted(rows))]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        terminalreporter.write_line(line.rstrip())
