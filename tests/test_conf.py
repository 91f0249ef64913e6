"""What conf/ has for systemd, as far as it can be judged without a running one."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

CONF = Path(__file__).parents[1] / "conf"
MOST_EXPOSED = 3.0  # of 10; "OK" is up to 4.9


def run(*command: str | Path) -> str:
    """What it prints, on either stream."""
    if shutil.which(str(command[0])) is None:
        pytest.skip(f"there is no {command[0]}")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The service with a program that is there."""
    text = (CONF / "quic-tlshd.service").read_text()
    assert text.count("ExecStart=/usr/bin/quic-tlshd\n") == 1
    copy = tmp_path / "quic-tlshd.service"
    copy.write_text(text.replace("ExecStart=/usr/bin/quic-tlshd\n", "ExecStart=/bin/true\n"))
    return copy


def test_service_is_valid(unit: Path) -> None:
    assert run("systemd-analyze", "verify", "--man=no", "--recursive-errors=no", unit) == ""


def test_service_with_network_namespaces_is_valid(unit: Path) -> None:
    """What is written twice is added up, so the file gives CAP_SYS_ADMIN and setns(2) and takes nothing away."""
    directory = unit.with_name(unit.name + ".d")
    directory.mkdir()
    shutil.copy(CONF / "netns.conf", directory)
    assert run("systemd-analyze", "verify", "--man=no", "--recursive-errors=no", unit) == ""
    text = (CONF / "netns.conf").read_text()
    assert set(re.findall(r"(?m)^[A-Za-z]+=.*$", text)) == {
        "CapabilityBoundingSet=CAP_SYS_ADMIN",
        "RestrictNamespaces=net",
    }


def test_service_exposes_little(unit: Path) -> None:
    if "--offline" not in run("systemd-analyze", "--help"):
        pytest.skip("this systemd-analyze can't judge a file")
    run("systemd-analyze", "security", "--offline=true", f"--threshold={MOST_EXPOSED * 10:.0f}", "--no-pager", unit)


def test_service_has_the_capabilities_that_are_used() -> None:
    """Netlink; workers by setpriv as another user without any; their end; the group of the socket."""
    (line,) = re.findall(r"(?m)^CapabilityBoundingSet=(.*)$", (CONF / "quic-tlshd.service").read_text())
    assert set(line.split()) == {"CAP_NET_ADMIN", "CAP_SETUID", "CAP_SETGID", "CAP_SETPCAP", "CAP_KILL", "CAP_CHOWN"}


def test_service_may_do_what_the_daemon_does() -> None:
    """chown for socket_group; /proc/keys."""
    text = (CONF / "quic-tlshd.service").read_text()
    denied = " ".join(re.findall(r"(?m)^SystemCallFilter=~(.*)$", text)).split()
    assert not {"@chown", "chown", "fchownat", "@basic-io", "@file-system", "flock"} & set(denied)
    assert re.findall(r"(?m)^ProcSubset=(.*)$", text) in ([], ["all"])


def test_sysusers(tmp_path: Path) -> None:
    said = run("systemd-sysusers", "--dry-run", f"--root={tmp_path}", CONF / "quic-tlshd.sysusers")
    assert "Creating user 'quic-tlshd'" in said
