"""What the daemon says when it can't start for its socket's sake: a file, a reason and a remedy, and no Python."""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
from pathlib import Path

import pytest

REMEDY = "(set [upcall] socket, or XDG_RUNTIME_DIR)"


@pytest.mark.parametrize(
    ("socket", "said"),
    [
        ("/proc/none/handshake.sock", f"/proc/none: No such file or directory {REMEDY}"),
        ("x" * 120, f"{'x' * 120}: AF_UNIX path too long {REMEDY}"),
        ("config", "config: not a socket"),
    ],
)
def test_socket_that_cant_be(tmp_path: Path, socket: str, said: str) -> None:
    config = tmp_path / "config"
    user = pwd.getpwuid(os.geteuid()).pw_name  # who surely can read this installation
    config.write_text(f"[upcall]\nsocket={socket}\nkernel=no\n[worker]\ncount=1\nuser={user}\n")
    command = [sys.executable, "-m", "quic_tlshd", "-c", str(config)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    line = done.stderr.splitlines()[-1]
    assert "ERROR   can't start: " in line
    assert line.endswith(said)
    assert "Errno" not in done.stderr
    assert "Traceback" not in done.stderr
