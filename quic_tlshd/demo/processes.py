"""The demo's two programs, the daemon and the server: their configuration, start and end."""

from __future__ import annotations

import os
import pwd
import select
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from quic_tlshd.demo import interruption
from quic_tlshd.demo.certificates import Identity

PATIENCE = 20.0  # seconds for a program to start, to log something, or to end
NOBODY = "nobody"


class DemoError(Exception):
    """Something is not as it should be; the text is for whoever watches the demo."""


class Programs:
    """What runs in the folder `directory`, which must be new."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._registry = directory / "registry.d"
        self._registry.mkdir(mode=0o700)
        self._socket = directory / "handshake.sock"
        self._log = directory / "log"
        self._user = _least_user()
        self._started: list[subprocess.Popen[bytes]] = []

    @property
    def daemon(self) -> subprocess.Popen[bytes]:
        return self._started[0]

    @property
    def server(self) -> subprocess.Popen[bytes]:
        return self._started[1]

    @property
    def workers(self) -> str:
        """Who does the handshakes, in words."""
        pids = Path(f"/proc/{self.daemon.pid}/task/{self.daemon.pid}/children").read_text().split()
        return f"its worker (pid {', '.join(pids)}{self._as_user}), which has none,"

    @property
    def gift(self) -> str:
        """What the server was started with, in words."""
        return f"the name of the daemon's socket and nothing else{', and runs' * bool(self._user)}{self._as_user}"

    @property
    def caveat(self) -> str:
        """What this run can't show."""
        if os.geteuid() != 0:
            return "Daemon and server run as the same user here; in service they do not, and the key files are closed."
        if self._user is None:
            return (
                f"Everything runs as root: {NOBODY} can't read this installation. In service, workers are unprivileged."
            )
        return ""

    @property
    def _as_user(self) -> str:
        return f" as user {self._user}" if self._user else ""

    def add_entry(self, name: str, server_name: str, identity: Identity) -> None:
        """A registry entry for the ALPN `name`."""
        identity.write(self._registry, name)
        (self._registry / f"{name}.conf").write_text(
            f"[entry {name}]\nalpn = {name}\nserver_name = {server_name}\n"
            f"certificate = {name}.pem\nprivate_key = {name}.key\n"
        )

    def start_daemon(self) -> None:
        """Start the daemon; DemoError unless it answers."""
        config = self._directory / "config"
        lines = ["[upcall]", f"socket = {self._socket}", "kernel = no", "[worker]", "count = 1"]
        if os.geteuid() == 0:
            lines.append(f"user = {self._user or 'root'}")
        if self._user is not None:
            lines.insert(1, "socket_mode = 0666")  # for the server, which is another user then
        config.write_text("\n".join(lines) + "\n")
        with self._log.open("wb") as log:
            command = [sys.executable, "-m", "quic_tlshd", "-c", str(config), "--stderr"]
            self._start(command, stderr=log, stdin=subprocess.DEVNULL)
        self._until(self._answers, "answer")

    def start_server(self) -> int:
        """Start the server; its UDP port. DemoError unless it has one."""
        if self._user is not None:
            self._directory.chmod(0o711)  # it must get to the socket; the keys' folder stays closed
        command = [sys.executable, "-m", "quic_tlshd.demo.server", str(self._socket)]
        with self._log.open("ab") as log:
            server = self._start(command, user=self._user, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log)
        assert server.stdout is not None
        deadline = time.monotonic() + PATIENCE
        while not select.select([server.stdout], [], [], interruption.STEP)[0] and time.monotonic() < deadline:
            interruption.check()
        line = server.stdout.readline() if time.monotonic() < deadline else b""
        if not line:
            raise self._error("the server did not start")
        return int(line)

    def wait_for_log(self, text: str) -> str:
        """The only line of the daemon's log with `text` in it."""

        def found() -> list[str]:
            return [line for line in self._log.read_text().splitlines() if text in line]

        self._until(found, f"log anything about {text}")
        lines = found()
        if len(lines) != 1:
            raise DemoError(f"the daemon logged {len(lines)} lines about {text}")
        return lines[0]

    def stop(self) -> None:
        """End both, the server first; never raises."""
        for process in reversed(self._started):
            if process.stdin is not None:
                process.stdin.close()
            process.terminate()
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.stdout is not None:
                process.stdout.close()
        self._started.clear()

    def _start(self, command: list[str], user: str | None = None, **streams: object) -> subprocess.Popen[bytes]:
        groups: dict[str, object] = {}
        if user is not None:
            groups = {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": []}
        # A group of its own: a ^C at the terminal is for the demo alone, which then ends them in order.
        process: subprocess.Popen[bytes] = subprocess.Popen(command, process_group=0, **groups, **streams)  # type: ignore[call-overload]  # noqa: S603
        self._started.append(process)
        return process

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as probe:
            return probe.connect_ex(str(self._socket)) == 0

    def _until(self, condition: Callable[[], object], what: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            if self.daemon.poll() is not None or time.monotonic() > deadline:
                raise self._error(f"the daemon did not {what}")
            interruption.check()
            time.sleep(interruption.STEP)

    def _error(self, text: str) -> DemoError:
        lines = self._log.read_text(errors="replace").splitlines()
        return DemoError(f"{text}; the last line it wrote: {lines[-1]}" if lines else text)


def _least_user() -> str | None:
    """For root: nobody, if nobody can use this installation, else None. For everybody else None."""
    if os.geteuid() != 0:
        return None
    try:
        account = pwd.getpwnam(NOBODY)
        subprocess.run(
            [sys.executable, "-c", "import quic_tlshd.worker, aioquic"],
            user=account.pw_uid,
            group=account.pw_gid,
            extra_groups=[],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PATIENCE,
            check=True,
        )
    except (KeyError, OSError, subprocess.SubprocessError):
        return None
    return NOBODY
