"""The two daemons that can answer the kernel's upcalls, with the same configuration: tlshd's is ours too."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.peers import daemon
from tests.vm.guest import netns

PATIENCE = daemon.PATIENCE = 120.0  # seconds; an emulated machine is slow, and may share its host's processors


class Handler:
    """A handshake daemon in the network namespace `side`. Its log is what it wrote since it was first started."""

    name: str
    started: str  # what it logs when it listens
    reloaded: str

    def __init__(self, side: str, directory: Path, config: Mapping[str, Mapping[str, str]]) -> None:
        self.side = side
        self.directory = directory
        self._config = {"debug": {"loglevel": "0"}, **config}
        self._write(self._config)
        (directory / "log").touch()

    def start(self) -> None:
        """Start it; it listens when this returns. Without a listener the kernel refuses requests."""
        before = len(self.log())
        self._start()
        self._until_logged(self.started, before)

    def stop(self) -> None:
        raise NotImplementedError

    def reload(self) -> None:
        """Have it load its configuration anew."""
        before = len(self.log())
        os.kill(self.pid, signal.SIGHUP)
        self._until_logged(self.reloaded, before)

    @contextmanager
    def configured(self, section: str, values: Mapping[str, str]) -> Iterator[None]:
        """Meanwhile it has these values in that section, "" for none, and else what it had."""
        self._write({**self._config, section: {**self._config.get(section, {}), **values}})
        self.reload()
        try:
            yield
        finally:
            self._write(self._config)
            self.reload()

    def _until_logged(self, text: str, before: int) -> None:
        until(lambda: any(text in line for line in self.log()[before:]), f"the {self.side}'s handler logs {text!r}")

    @property
    def pid(self) -> int:
        raise NotImplementedError

    def _start(self) -> None:
        raise NotImplementedError

    def log(self) -> list[str]:
        raise NotImplementedError

    def _write(self, sections: Mapping[str, Mapping[str, str]]) -> None:
        lines = []
        for name, values in sections.items():
            lines += [f"[{name}]", *(f"{key}={value}" for key, value in values.items()), ""]
        (self.directory / "config").write_text("\n".join(lines))


class Tlshd(Handler):
    """ktls-utils' tlshd, as Debian has it."""

    name = "tlshd"
    started = "Kernel capabilities"
    reloaded = "Configuration reloaded successfully"

    def __init__(self, side: str, directory: Path, config: Mapping[str, Mapping[str, str]]) -> None:
        super().__init__(side, directory, config)
        self._log = directory / "log"
        self._process: subprocess.Popen[bytes] | None = None

    def _start(self) -> None:
        with self._log.open("ab") as log, netns.entered(self.side):
            self._process = subprocess.Popen(
                # With a session keyring of its own, as in service: it unlinks from it what requests bring.
                ["keyctl", "session", "-", "tlshd", "-s", "-c", str(self.directory / "config")],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(PATIENCE)
            self._process = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def log(self) -> list[str]:
        return self._log.read_text(errors="replace").splitlines()


class QuicTlshd(Handler):
    """Ours, from the checkout."""

    name = "quic-tlshd"
    started = " ready: "
    reloaded = " reloaded: "

    def __init__(self, side: str, directory: Path, config: Mapping[str, Mapping[str, str]]) -> None:
        own: dict[str, Mapping[str, str]] = {
            "upcall": {"kernel": "yes", "socket": str(directory / "handshake.sock")},
            "worker": {"count": "1"},
        }
        super().__init__(side, directory, {**own, **config})
        self.daemon = daemon.Daemon(directory)

    def _start(self) -> None:
        with netns.entered(self.side):
            self.daemon.start()

    def stop(self) -> None:
        self.daemon.stop()

    @property
    def pid(self) -> int:
        return self.daemon.pid

    def log(self) -> list[str]:
        return self.daemon.log()


HANDLERS: Mapping[str, type[Handler]] = {handler.name: handler for handler in (QuicTlshd, Tlshd)}


def genetlink_listeners(side: str) -> int:
    """How many sockets there are members of a generic netlink group (which is what handlers are)."""
    with netns.entered(side):
        lines = Path("/proc/thread-self/net/netlink").read_text().splitlines()[1:]
    # sk, protocol, port id, groups (in hexadecimal), ...; 16 is NETLINK_GENERIC
    return sum(fields[1] == "16" and int(fields[3], 16) != 0 for fields in map(str.split, lines))


def until(condition: Callable[[], bool], what: str) -> None:
    """Wait for something; AssertionError if it does not come."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain until {what}"
        time.sleep(0.02)
