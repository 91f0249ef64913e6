"""The table at the end of a run: every scenario with its results and seconds, by the handlers of the two sides."""

from __future__ import annotations

import io
from dataclasses import dataclass, field

import pytest
from rich import box
from rich.console import Console
from rich.table import Table

ALONE = "no pair"  # the column of scenarios that are not run with each pair of handlers
_WIDTH = 140  # characters; a guest's output is no terminal


@dataclass
class Row:
    """A scenario. cells: result and seconds, by the pair of handlers. said: what it recorded with record_property."""

    cells: dict[str, str] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)


class Summary:
    """columns: the pairs' names, as they stand in the scenarios' ids."""

    def __init__(self, columns: list[str]) -> None:
        self._columns = [*columns, ALONE]
        self._rows: dict[tuple[str, str], Row] = {}  # by file and scenario

    def add(self, item: pytest.Item, report: pytest.TestReport) -> None:
        """Take what concerns a scenario's call, and whatever has failed."""
        if report.when != "call" and not report.failed:
            return
        name, _, parameters = item.name.removesuffix("]").partition("[")
        column = next((column for column in self._columns if parameters.startswith(column)), ALONE)
        others = parameters.removeprefix(column).strip("-")
        scenario = ", ".join(filter(None, (name.removeprefix("test_").replace("_", " "), others)))
        row = self._rows.setdefault((item.path.stem.removeprefix("test_").replace("_", " "), scenario), Row())
        result = report.outcome if report.when == "call" else f"{report.when} {report.outcome}"
        row.cells[column] = f"{result if report.passed else result.upper()} {report.duration:.1f}"
        row.said += [text for _, value in report.user_properties if (text := str(value)) not in row.said]

    def write(self, reporter: pytest.TerminalReporter) -> None:
        if not self._rows:
            return
        table = Table("", "scenario", box=box.SIMPLE_HEAD, title="Scenarios: result and seconds, by client and server")
        for column in self._columns:
            table.add_column("\n".join(column.split("--")))
        said = Table("", "scenario", "and what was said", box=box.SIMPLE_HEAD)
        last = ""
        for (file, scenario), row in sorted(self._rows.items()):
            title = "" if file == last else file
            table.add_row(title, scenario, *(row.cells.get(column, "") for column in self._columns))
            for text in row.said:
                said.add_row(file, scenario, text)
            last = file
        output = io.StringIO()
        console = Console(file=output, width=_WIDTH)
        console.print(table)
        if said.row_count:
            console.print(said)
        reporter.write(output.getvalue())
