"""Prints the table of cells at the end of the run, and writes it to a file if --interop-table names one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.interop.table import Table

TABLE = pytest.StashKey[Table]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[TABLE] = Table()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    table = config.stash[TABLE]
    if not table:
        return
    lines = list(table.lines())
    terminalreporter.section("interoperability")
    for line in lines:
        terminalreporter.write_line(line)
    file: str | None = config.getoption("--interop-table")
    if file is not None:
        Path(file).write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="session")
def interop_table(request: pytest.FixtureRequest) -> Table:
    return request.config.stash[TABLE]
