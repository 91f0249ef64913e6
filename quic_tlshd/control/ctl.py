"""quic-tlshdctl: the administrator's command. Exit status 0: fine; 1: errors were found; 2: wrong usage."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from quic_tlshd.control.check import EXPIRES_SOON, CertificateRow, EntryRow, Report, check
from quic_tlshd.policy.config import SEARCH


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; give the exit status. What goes wrong is told in a sentence, never as a traceback."""
    options = _parser().parse_args(arguments)
    try:
        status: int = options.run(options)
    except BrokenPipeError:
        # Whoever read us has seen enough; without this the interpreter would complain at exit.
        sys.stdout = None
        return 1
    except KeyboardInterrupt:
        return 1
    except Exception as error:  # noqa: BLE001 -- the last resort before a user's terminal
        print(f"quic-tlshdctl: unexpected {type(error).__name__}: {error}", file=sys.stderr)  # noqa: T201
        return 1
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="quic-tlshdctl", description="Look after quic-tlshd.")
    parser.add_argument("--version", action="version", version=f"%(prog)s {_version()}")
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
    verb = verbs.add_parser(
        "check",
        help="validate the configuration, the registry and every certificate",
        description="Validate what quic-tlshd would load: exit status 1 if it would refuse to start with it, or if "
        "peers would refuse a certificate for its dates. Warnings do not fail. Run it as the user that starts the "
        "daemon: it reads the private keys too.",
    )
    default = ", else ".join(map(str, SEARCH))
    verb.add_argument("-c", "--config", type=Path, metavar="FILE", help=f"the configuration (default: {default})")
    verb.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    verb.set_defaults(run=_check)
    return parser


def _version() -> str:
    try:
        return version("quic-tlshd")
    except PackageNotFoundError:
        return "(not installed)"


def _check(options: argparse.Namespace) -> int:
    report = check(options.config)
    if options.json:
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(report)).decode() + "\n")
    else:
        # A pipe has no width; 80 columns would fold most names.
        _print(report, Console(highlight=False, width=None if sys.stdout.isatty() else 160))
    return 1 if report.errors else 0


def _print(report: Report, console: Console) -> None:
    console.print(f"Configuration: {escape(report.config or 'built-in')}", soft_wrap=True)
    if report.entries:
        console.print(_entry_table(report.entries))
    if report.certificates:
        console.print(_certificate_table(report.certificates))
    for warning in report.warnings:
        console.print(f"[yellow]warning:[/] {escape(warning)}", soft_wrap=True)
    for error in report.errors:
        console.print(f"[red]error:[/] {escape(error)}", soft_wrap=True)
    if not report.errors:
        console.print("[green]The configuration is fine.[/]")


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _entry_table(rows: Sequence[EntryRow]) -> Table:
    table = _table("Registry", "Entry", "Role", "ALPN", "Server name", "Client certificate", "Trust anchors")
    for row in rows:
        trust = f"{row.anchors} of {row.trust}" if row.trust else "none"
        names = "\n".join(row.server_name) or "any"
        wish = row.client_certificate if row.role == "server" else "-"
        table.add_row(*map(escape, (row.name, row.role, row.alpn or "any", names, wish, trust)))
    return table


def _certificate_table(rows: Sequence[CertificateRow]) -> Table:
    table = _table("Certificates", "Entry", "Subject", "Names", "Key", "Chain", "Valid until", "OCSP until")
    for row in rows:
        left = f"{row.not_after} ({row.days_left} days)"
        colour = "red" if row.days_left < 0 else "yellow" if row.days_left < EXPIRES_SOON else "green"
        cells = (row.entry, row.subject, "\n".join(row.names), row.key, str(row.chain))
        table.add_row(*map(escape, cells), f"[{colour}]{left}[/]", row.ocsp_until or "-")
    return table


if __name__ == "__main__":
    sys.exit(main())
