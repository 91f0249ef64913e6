"""``python -m quic_tlshd.demo`` as a person runs it, and as a pipe does."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

TIMEOUT = 60


def run(directory: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "quic_tlshd.demo"],
        env=os.environ | {"TMPDIR": str(directory)} | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )


@pytest.fixture
def directory() -> Path:
    """A short path: Unix sockets will be in it."""
    return Path(tempfile.mkdtemp(prefix="demo-"))


def test_all_is_as_it_should_be(directory: Path) -> None:
    done = run(directory, NO_COLOR="1")
    assert (done.returncode, done.stderr) == (0, "")
    assert "\x1b" not in done.stdout
    for said in (
        "ALPN h3   certificate CN=localhost",
        "which say that entry h3 served them",
        "ALPN smb  certificate CN=files.localhost",
        "Entry smb served you",
        "ALPN gopher refused: CRYPTO_ERROR 0x178, no_application_protocol",
        "alert no_application_protocol sent",
        "not in the server",
        "All as it should be",
    ):
        assert said in done.stdout
    assert list(directory.iterdir()) == []
    directory.rmdir()


def test_a_failure_is_one_line(directory: Path) -> None:
    done = run(directory, PATH="/nowhere")  # there is no setpriv, with which workers are started
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("The demo failed: the daemon did not answer")
    assert "setpriv" in line
    assert list(directory.iterdir()) == []
    directory.rmdir()


def test_without_aioquic_it_says_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "aioquic.py").write_text("raise ImportError('no aioquic here')")
    done = run(tmp_path, PYTHONPATH=str(tmp_path))
    assert done.returncode == 1
    assert done.stderr.startswith("The demo can't start: ")
    assert "pip install 'quic-tlshd[aioquic]'" in done.stderr
    assert "Traceback" not in done.stderr
