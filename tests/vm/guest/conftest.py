"""What the scenarios share: the network namespaces, the handlers in them, and the table at the end."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from tests.vm.guest import handlers, hsgen, keyring, netns, nfs, nvme, solo
from tests.vm.guest.handlers import Handler
from tests.vm.guest.scenario import Credentials, Handlers
from tests.vm.guest.solo import Solo
from tests.vm.guest.summary import Summary

# make test, on the host, finds these files too.
collect_ignore_glob = [] if os.path.exists(hsgen.DEVICE) else ["test_*.py"]

PAIRS = [(client, server) for client in handlers.HANDLERS for server in handlers.HANDLERS]
LOG_TAIL = 40  # lines of a handler's log that a failed scenario shows


def name_of(pair: tuple[str, str]) -> str:
    return "--".join(pair)


summary = Summary([name_of(pair) for pair in PAIRS])


@pytest.fixture(scope="session", autouse=True)
def namespaces() -> Iterator[None]:
    netns.create()
    yield
    netns.remove()


@pytest.fixture(scope="session", autouse=True)
def keyrings() -> Iterator[None]:
    """All keyrings that handlers look in are there before the handlers are: tlshd looks for them when it starts."""
    for module in ("nfs", "nvme-keyring"):
        netns.execute("modprobe", module)
    with keyring.made(keyring.CONFIGURED):
        yield


@pytest.fixture(scope="session")
def credentials(tmp_path_factory: pytest.TempPathFactory) -> Credentials:
    return Credentials(tmp_path_factory.mktemp("credentials"))


@pytest.fixture(scope="session", params=PAIRS, ids=name_of)
def pair(request: pytest.FixtureRequest, credentials: Credentials) -> Iterator[Handlers]:
    """Each pair of handlers in turn, the client's side first; they run as long as scenarios ask for the same pair."""
    with tempfile.TemporaryDirectory(prefix="handlers-") as name:
        started: list[Handler] = []
        try:
            for side, handler in zip(netns.NAMES, request.param, strict=True):
                directory = Path(name) / side
                directory.mkdir()
                config = {"authenticate": {"keyrings": keyring.CONFIGURED}, **credentials.config()}
                started.append(handlers.HANDLERS[handler](side, directory, config))
                started[-1].start()
            yield Handlers(*started)
        finally:
            for each in started:
                each.stop()


@pytest.fixture(scope="session")
def solo_daemon() -> Iterator[Solo]:
    """The same for all scenarios that need but one daemon."""
    with tempfile.TemporaryDirectory(prefix="solo-") as name, solo.running(Path(name)) as daemon:
        yield daemon


@pytest.fixture(scope="session")
def nfs_server() -> Iterator[None]:
    with nfs.serving():
        yield


@pytest.fixture(scope="session")
def nvme_target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with nvme.serving(tmp_path_factory.mktemp("nvme")):
        yield


def _handlers_of(item: pytest.Item) -> Iterator[Handler]:
    for value in getattr(item, "funcargs", {}).values():
        if isinstance(value, Handler):
            yield value
        elif isinstance(value, Handlers):
            yield from value


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the handlers' logs with a failure, and remember the scenario for the table."""
    report = yield
    if report.failed:
        for handler in _handlers_of(item):
            title = f"end of the log of {handler.name}, the {handler.side}'s handler"
            report.sections.append((title, "\n".join(handler.log()[-LOG_TAIL:])))
    summary.add(item, report)
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    summary.write(terminalreporter)
