"""The two daemons that can answer the kernel's upcalls, with the same configuration: tlshd's is ours too."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.peers import daemon
from tests.vm.guest import netns

PATIENCE = daemon.PATIENCE = 120.0  # seconds; an emulated machine is slow, and may share its host's processors


class Handler:
    """A handshake daemon in the network namespace `side`. Its log is what it wrote since it was first started."""

    name: str

    def __init__(self, side: str, directory: Path, config: Mapping[str, Mapping[str, str]]) -> None:
        self.side = side
        self.directory = directory
        self._write({"debug": {"loglevel": "0"}, **config})

    def start(self) -> None:
        """Start it; it listens when this returns. Without a listener the kernel refuses requests."""
        self._start()
        until(lambda: genetlink_listeners(self.side) > 0, f"the {self.side}'s handler listens")

    def stop(self) -> None:
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

    def __init__(self, side: str, directory: Path, config: Mapping[str, Mapping[str, str]]) -> None:
        super().__init__(side, directory, config)
        self._log = directory / "log"
        self._process: subprocess.Popen[bytes] | None = None

    def _start(self) -> None:
        with self._log.open("ab") as log, netns.entered(self.side):
            self._process = subprocess.Popen(
                ["tlshd", "-s", "-c", str(self.directory / "config")],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(PATIENCE)
            self._process = None

    def log(self) -> list[str]:
        return self._log.read_text(errors="replace").splitlines()


class QuicTlshd(Handler):
    """Ours, from the checkout."""

    name = "quic-tlshd"

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

    def log(self) -> list[str]:
        return self.daemon.log()


HANDLERS: Mapping[str, type[Handler]] = {handler.name: handler for handler in (Tlshd, QuicTlshd)}


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
