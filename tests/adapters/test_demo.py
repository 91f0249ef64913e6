"""``python -m quic_tlshd.demo`` as a person runs it, and as a pipe does."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
from rich.console import Console

from quic_tlshd.demo.demo import Demo

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


@pytest.mark.parametrize(
    ("number", "seen"),
    [
        (signal.SIGINT, "one UDP port"),
        (signal.SIGINT, "entry smb"),
        (signal.SIGHUP, "daemon  pid"),
        (signal.SIGINT, "ALPN h3"),
        (signal.SIGTERM, "it said"),
    ],
)
def test_a_signal_ends_it_in_order(directory: Path, number: signal.Signals, seen: str) -> None:
    """Whatever it is doing then, and also if the signal comes twice."""
    demo = subprocess.Popen(
        [sys.executable, "-u", "-m", "quic_tlshd.demo"],
        env=os.environ | {"TMPDIR": str(directory)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert demo.stdout is not None
    said = ""
    while seen not in said:
        line = demo.stdout.readline()
        assert line, said
        said += line
    children = [int(pid) for pid in Path(f"/proc/{demo.pid}/task/{demo.pid}/children").read_text().split()]
    demo.send_signal(number)
    demo.send_signal(number)
    _, complaint = demo.communicate(timeout=TIMEOUT)
    assert (demo.returncode, complaint) == (128 + number, "The demo was interrupted.\n")
    assert not any(Path(f"/proc/{pid}").exists() for pid in children)
    assert list(directory.iterdir()) == []
    directory.rmdir()


@pytest.mark.parametrize("delay", [0.0, 0.05, 0.1, 0.2, 0.3, 0.4])
def test_a_signal_while_it_starts(directory: Path, delay: float) -> None:
    # What python -m does, with a line when signals are looked after.
    armed = "from quic_tlshd.demo import interruption; interruption.end_at_once(); print('armed', flush=True)"
    start = "import runpy; runpy.run_module('quic_tlshd.demo', run_name='__main__')"
    demo = subprocess.Popen(
        [sys.executable, "-c", f"{armed}; {start}"],
        env=os.environ | {"TMPDIR": str(directory)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert demo.stdout is not None
    assert demo.stdout.readline() == "armed\n"
    time.sleep(delay)
    demo.send_signal(signal.SIGINT)
    _, complaint = demo.communicate(timeout=TIMEOUT)
    assert (demo.returncode, complaint) == (130, "The demo was interrupted.\n")
    assert list(directory.iterdir()) == []
    directory.rmdir()


@pytest.mark.parametrize("width", [80, 60])
def test_lines_of_a_terminal_break_between_words(tmp_path: Path, width: int) -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, color_system=None, width=width, highlight=False)
    with ExitStack() as stack:
        demo = Demo(console, stack)
        demo.say(
            "server  pid 7: serves [bold]both[/] on UDP 127.0.0.1 port 4711; it was given the name of a socket only"
        )
        demo.say("     " + "it said: " + "many words " * 20)
    lines = screen.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    assert all(line.startswith("  ") for line in lines)
    assert lines[1].startswith("    ")
    words = screen.getvalue().split()
    assert words[:4] == ["server", "pid", "7:", "serves"]
    assert words.count("many") == words.count("words") == 20


def test_without_aioquic_it_says_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "aioquic.py").write_text("raise ImportError('no aioquic here')")
    done = run(tmp_path, PYTHONPATH=str(tmp_path))
    assert done.returncode == 1
    assert done.stderr.startswith("The demo can't start: ")
    assert "pip install 'quic-tlshd[aioquic]'" in done.stderr
    assert "Traceback" not in done.stderr
