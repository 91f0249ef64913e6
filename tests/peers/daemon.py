"""The real daemon, ``python -m quic_tlshd``, in a directory of its own, for as long as a test needs it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.peers.pki import Issued

PATIENCE = 20.0  # seconds for a start, a line in the log or an end
REPOSITORY = Path(__file__).parents[2]


@dataclass(frozen=True)
class Entry:
    """A registry entry: what it shows, and its other keys by their names in the file."""

    issued: Issued | None = None
    options: Mapping[str, str] = field(default_factory=dict)


def entry(issued: Issued | None = None, **options: str) -> Entry:
    return Entry(issued, options)


class Daemon:
    """A daemon that can be started, stopped, and started again with the same configuration."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.socket = str(directory / "handshake.sock")
        self._log = directory / "log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it answers."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "quic_tlshd", "-c", self.directory / "config", "--stderr"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=REPOSITORY,
            )
        self._until(self._answers, "to answer")

    def stop(self) -> None:
        """End it as an administrator would; AssertionError unless it ends well."""
        if self._process is None:
            return
        process, self._process = self._process, None
        process.terminate()
        try:
            status = process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise AssertionError(self._report("does not end")) from None
        assert status == 0, self._report(f"ended with status {status}")

    def reload(self) -> None:
        """Have it take what the configuration says now; AssertionError if it doesn't."""
        before = sum("reloaded:" in line for line in self.log())
        os.kill(self.pid, signal.SIGHUP)
        self.wait_for_log("reloaded:", before + 1)

    def kill(self) -> None:
        """SIGKILL, also when it is suspended."""
        assert self._process is not None
        workers = self.children
        self._process.kill()
        self._process.wait()
        self._process = None
        for pid in workers:  # which end by themselves, unless they are suspended too
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    @contextmanager
    def suspended(self) -> Iterator[None]:
        """Nothing is answered meanwhile, unless it is resumed before; it may be killed."""
        self._signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.resume()

    def resume(self) -> None:
        """Let it go on; may be called once more than needed."""
        self._signal(signal.SIGCONT)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def children(self) -> list[int]:
        """The workers' process ids."""
        return [int(pid) for pid in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()]

    def log(self) -> list[str]:
        """The lines so far."""
        return self._log.read_text().splitlines()

    def wait_for_log(self, text: str, count: int = 1) -> list[str]:
        """The lines with `text` in them, when there are at least `count`."""

        def found() -> bool:
            return sum(text in line for line in self.log()) >= count

        self._until(found, f"to log {text!r}")
        return [line for line in self.log() if text in line]

    def lines_since(self, before: int, count: int = 1) -> list[str]:
        """The lines after the first `before`, when there are at least `count` of them."""
        self._until(lambda: len(self.log()) >= before + count, f"to log {count} more lines")
        return self.log()[before:]

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            for pid in (self.pid, *self.children):
                os.kill(pid, number)

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as probe:
            return probe.connect_ex(self.socket) == 0

    def _until(self, condition: object, what: str) -> None:
        assert callable(condition)
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert self._process is None or self._process.poll() is None, self._report("ended")
            assert time.monotonic() < deadline, self._report(f"was waited for in vain {what}")
            time.sleep(0.01)

    def _report(self, what: str) -> str:
        return "\n".join([f"the daemon {what}; its log:", *self.log()])


def configure(
    directory: Path,
    entries: Mapping[str, Entry],
    *,
    client: Mapping[str, str] | None = None,
    server: Mapping[str, str] | None = None,
    worker: Mapping[str, str] | None = None,
    debug: Mapping[str, str] | None = None,
) -> None:
    """Write config and registry.d. client, server: [authenticate.client] and [authenticate.server]."""
    sections: dict[str, Mapping[str, str]] = {
        "debug": {"loglevel": "0", **(debug or {})},
        "upcall": {"socket": str(directory / "handshake.sock"), "kernel": "no"},
        "worker": {"count": "1"} | ({"user": "root"} if os.geteuid() == 0 else {}) | dict(worker or {}),
        "authenticate.client": client or {},
        "authenticate.server": server or {},
    }
    _write(directory / "config", sections)
    registry = directory / "registry.d"
    registry.mkdir(exist_ok=True)
    for name, each in entries.items():
        options = dict(each.options)
        if each.issued is not None:
            certificate, key = each.issued.write(registry, name)
            options |= {"certificate": str(certificate), "private_key": str(key)}
        _write(registry / f"{name}.conf", {f"entry {name}": options})


def _write(path: Path, sections: Mapping[str, Mapping[str, str]]) -> None:
    lines = []
    for section, values in sections.items():
        lines += [f"[{section}]", *(f"{key} = {value}" for key, value in values.items()), ""]
    path.write_text("\n".join(lines))


@contextmanager
def running(entries: Mapping[str, Entry], **sections: Mapping[str, str]) -> Iterator[Daemon]:
    """A daemon with these registry entries; see `configure`. It must end well if the test does not kill it."""
    # Not pytest's tmp_path: a Unix socket's path has 107 characters at most.
    with tempfile.TemporaryDirectory(prefix="quic-tlshd-") as name:
        directory = Path(name)
        configure(directory, entries, **sections)
        daemon = Daemon(directory)
        try:
            daemon.start()
            yield daemon
        finally:
            daemon.stop()
