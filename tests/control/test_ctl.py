"""quic-tlshdctl as a user runs it: what it prints, and its exit status."""

from __future__ import annotations

import grp
import json
import os
import pwd
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from quic_tlshd.control.ctl import main
from quic_tlshd.policy import config
from tests.peers import pki
from tests.peers.crafted import NOW, Crafted, craft
from tests.peers.responder import respond

ROOT = pki.Authority("ctl root")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration that is fine, with one entry."""
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
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
    for part in ("h3", "www.example.org", "CN=www.example.org", "secp256r1", "is fine"):
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


def test_ocsp_responses(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    staples = x509.TLSFeature([x509.TLSFeatureType.status_request])
    root = Crafted(ROOT.certificate, ROOT.private_key)
    until = NOW + timedelta(days=90)
    end = craft("www.example.org", root, key="rsa", until=until, extensions=[(staples, False)])
    registry = folder / "registry.d"
    pki.Issued(end.certificate, end.key, (ROOT.certificate,)).write(registry, "a")
    found = report(folder, capsys, 0)
    assert "needs an OCSP response" in found["warnings"][0]  # type: ignore[index]
    assert found["certificates"][0]["key"] == "RSA 2048"  # type: ignore[index]
    assert found["certificates"][0]["ocsp_until"] == ""  # type: ignore[index]
    with (registry / "a.conf").open("a") as conf:
        conf.write("ocsp_response=a.ocsp\n")
    until = NOW + timedelta(days=3)
    (registry / "a.ocsp").write_bytes(respond(end, root, until=until))
    found = report(folder, capsys, 0)
    assert found["warnings"] == []
    assert found["certificates"][0]["ocsp_until"] == f"{until:%Y-%m-%d %H:%M}"  # type: ignore[index]
    (registry / "a.ocsp").write_bytes(respond(end, root, until=NOW - timedelta(hours=3)))
    found = report(folder, capsys, 1)
    assert "expired on" in found["errors"][0]  # type: ignore[index]


def test_file_that_does_not_exist(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "No such file" in report(tmp_path, capsys, 1)["errors"][0]  # type: ignore[index]


@pytest.mark.parametrize(
    ("settings", "line", "said"),
    [
        ("[upcall]\nsocket_group=nobody-has-this", 2, "there is no group nobody-has-this"),
        ("[worker]\nuser=nobody-has-this", 2, "there is no user nobody-has-this"),
        ("[upcall]\nkernel=no\nsocket=" + "x" * 120, 3, "the socket's path is longer than 107 bytes"),
        ("[upcall]\nsocket=ca.pem", 2, "ca.pem is there and is not a socket"),
        ("[upcall]\nsocket=ca.pem/handshake.sock", 2, "ca.pem/handshake.sock: Not a directory"),
        ("[upcall]\nsocket=registry.d/none/handshake.sock", 2, "registry.d can't be written to by this user"),
    ],
)
def test_what_would_keep_the_daemon_from_starting(
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    settings: str,
    line: int,
    said: str,
) -> None:
    monkeypatch.setattr(os, "access", lambda *_, **__: False)  # root may everything
    (folder / "config").write_text(settings + "\n")
    (folder / "registry.d" / "a.key").chmod(0o644)  # is found too
    errors = report(folder, capsys, 1)["errors"]
    assert isinstance(errors, list)
    assert len(errors) == 2
    assert errors[0].startswith(f"{folder}/config:{line}: ")
    assert said in errors[0]
    assert "has mode 0644" in errors[1]


def test_socket_and_user_that_can_be(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    me, group = pwd.getpwuid(os.geteuid()).pw_name, grp.getgrgid(os.getegid()).gr_name
    settings = f"[upcall]\nsocket=new/folder/handshake.sock\nsocket_group={group}\n[worker]\nuser={me}\n"
    with (folder / "config").open("a") as file:
        file.write(settings)
    found = report(folder, capsys, 0)
    assert (found["errors"], found["warnings"]) == ([], [])


@pytest.mark.parametrize(
    ("server_name", "names", "uncovered"),
    [
        ("www.example.org", ("www.example.org",), None),
        ("WWW.example.org", ("www.Example.org",), None),
        ("www.example.org", ("*.example.org",), None),
        ("*.example.org", ("*.example.org",), None),
        ("*.example.org", ("www.example.org",), "*.example.org"),
        ("www.example.org", ("example.org",), "www.example.org"),
        ("a.b.example.org", ("*.example.org",), "a.b.example.org"),
        ("www.example.org;other.example.org", ("www.example.org",), "other.example.org"),
    ],
)
def test_server_name_that_no_certificate_has(
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    server_name: str,
    names: tuple[str, ...],
    uncovered: str | None,
) -> None:
    file = folder / "registry.d" / "a.conf"
    file.write_text(file.read_text().replace("www.example.org", server_name))
    ROOT.issue(names).write(folder / "registry.d", "a")
    expected = f"{file}:1: entry h3: no certificate of it is for the server name {uncovered}: "
    warnings = report(folder, capsys, 0)["warnings"]
    assert isinstance(warnings, list)
    assert [warning.startswith(expected) for warning in warnings] == [True] * (uncovered is not None)


def test_server_certificate_without_names(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ROOT.issue(("www.example.org",), san=False).write(folder / "registry.d", "a")
    (warning,) = report(folder, capsys, 0)["warnings"]  # type: ignore[misc]
    assert "the certificate of CN=www.example.org has no subjectAltName" in warning


def test_client_certificate_needs_no_name(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = folder / "registry.d" / "a.conf"
    file.write_text(file.read_text() + "role=client\ntruststore=../ca.pem\n")
    ROOT.issue(("machine",), san=False).write(folder / "registry.d", "a")
    assert report(folder, capsys, 0)["warnings"] == []


@pytest.mark.parametrize("alpn", ["h3 # for browsers", "h3 smb", "#h3"])
def test_alpn_that_seems_to_have_a_comment(folder: Path, capsys: pytest.CaptureFixture[str], alpn: str) -> None:
    file = folder / "registry.d" / "a.conf"
    file.write_text(file.read_text().replace("alpn=h3", f"alpn={alpn}"))
    (warning,) = report(folder, capsys, 0)["warnings"]  # type: ignore[misc]
    assert f"entry h3: the ALPN {alpn!r} has a blank or '#' in it" in warning


def test_samples_have_nothing_suspicious(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    (tmp_path / "registry.d").mkdir()
    (tmp_path / "config").write_text("[authenticate.client]\nx509.truststore=registry.d/clients.pem\n")
    for sample in (Path(__file__).parents[2] / "conf" / "registry.d").glob("*.example"):
        text = sample.read_text().replace("crl=clients.crl\n", "")
        (tmp_path / "registry.d" / sample.stem).write_text(text)
    for stem, name in (("h3", ("www.example.org", "*.cdn.example.org")), ("smb", ("files.example.org",))):
        ROOT.issue(name).write(tmp_path / "registry.d", stem)
    ROOT.issue(("machine.example.org",)).write(tmp_path / "registry.d", "machine")
    for name in ("clients", "servers"):
        ROOT.write(tmp_path / "registry.d" / f"{name}.pem")
    found = report(tmp_path, capsys, 0)
    assert (found["errors"], found["warnings"]) == ([], [])
    assert len(found["entries"]) == 4  # type: ignore[arg-type]


def test_which_file_it_was_is_shown_even_after_an_error(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(config, "SEARCH", (folder / "none", folder / "config"))
    monkeypatch.chdir(folder)
    (folder / "config").write_text("[upcall]\nbogus=1\n")
    for arguments in (["check"], ["check", "-c", "config"]):
        assert main(arguments) == 1
        out = capsys.readouterr().out
        assert f"Configuration: {folder}/config\n" in out
        assert f"error: {folder}/config:2: [upcall] has no key 'bogus'" in out


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
