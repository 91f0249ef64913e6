"""quic-tlshdctl as a user runs it: what it prints, and its exit status."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from quic_tlshd.control.ctl import main
from tests.peers import pki

ROOT = pki.Authority("ctl root")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A configuration that is fine, with one entry."""
    (tmp_path / "registry.d").mkdir()
    (tmp_path / "config").write_text("[authenticate.client]\nx509.truststore=ca.pem\n")
    ROOT.write(tmp_path / "ca.pem")
    entry = "[entry h3]\nalpn=h3\nserver_name=[x]\ncertificate=a.pem\nprivate_key=a.key\n"
    (tmp_path / "registry.d" / "a.conf").write_text(entry.replace("[x]", "www.example.org"))
    ROOT.issue(("www.example.org",)).write(tmp_path / "registry.d", "a")
    return tmp_path


def report(folder: Path, capsys: pytest.CaptureFixture[str], status: int) -> dict[str, object]:
    assert main(["check", "-c", str(folder / "config"), "--json"]) == status
    parsed = json.loads(capsys.readouterr().out)
    assert isinstance(parsed, dict)
    return parsed


def test_fine(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--config", str(folder / "config")]) == 0
    out = capsys.readouterr().out
    for part in ("h3", "www.example.org", "CN=www.example.org", "ecdsa", "is fine"):
        assert part in out
    found = report(folder, capsys, 0)
    assert (found["errors"], found["warnings"]) == ([], [])
    assert found["certificates"][0]["days_left"] in (89, 90)  # type: ignore[index]


def test_errors(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "registry.d" / "a.key").chmod(0o644)
    assert main(["check", "-c", str(folder / "config")]) == 1
    out = capsys.readouterr().out
    assert f"error: {folder}/registry.d/a.conf:5: {folder}/registry.d/a.key: has mode 0644" in out
    assert "is fine" not in out
    assert len(report(folder, capsys, 1)["errors"]) == 1  # type: ignore[arg-type]


def test_expired_is_an_error_and_soon_expired_a_warning(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    now = datetime.now(UTC)
    soon = ROOT.issue(("www.example.org",), not_after=now + timedelta(days=10))
    soon.write(folder / "registry.d", "a")
    found = report(folder, capsys, 0)
    assert "expires in" in found["warnings"][0]  # type: ignore[index]
    old = ROOT.issue(("www.example.org",), not_before=now - timedelta(days=9), not_after=now - timedelta(days=1))
    old.write(folder / "registry.d", "a")
    found = report(folder, capsys, 1)
    assert "expired on" in found["errors"][0]  # type: ignore[index]
    assert main(["check", "-c", str(folder / "config")]) == 1


def test_file_that_does_not_exist(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "No such file" in report(tmp_path, capsys, 1)["errors"][0]  # type: ignore[index]


@pytest.mark.parametrize("arguments", [[], ["nonsense"], ["check", "--nonsense"], ["check", "-c"]])
def test_wrong_usage(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out.startswith("quic-tlshdctl ")


def test_no_traceback(folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quic_tlshd.control.ctl.check", lambda _: 1 // 0)
    assert main(["check", "-c", str(folder / "config")]) == 1
    assert (
        capsys.readouterr().err == "quic-tlshdctl: unexpected ZeroDivisionError: integer division or modulo by zero\n"
    )


def test_as_a_program(folder: Path) -> None:
    command = [sys.executable, "-m", "quic_tlshd.control.ctl", "check", "-c", str(folder / "config")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
