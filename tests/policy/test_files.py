"""Files that are none, and paths that can't be: each must be an error with its place, and none may stop the daemon."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from quic_tlshd.policy import config, entries
from quic_tlshd.policy.config import ConfigError
from quic_tlshd.policy.credentials import CredentialError, load_credential
from quic_tlshd.policy.files import open_private
from quic_tlshd.policy.pem import FileError, load_bundle
from tests.peers import pki

LONG = "x" * 300


@pytest.fixture(autouse=True)
def _impatient() -> Iterator[None]:
    """To open a FIFO would wait for ever."""

    def give_up(*_: object) -> None:
        raise AssertionError("it waits")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(5)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def test_a_private_file_is_made_and_appended_to(tmp_path: Path) -> None:
    for _ in range(2):
        descriptor = open_private(tmp_path / "new")
        os.write(descriptor, b"line\n")
        os.close(descriptor)
    assert (tmp_path / "new").read_bytes() == b"line\nline\n"
    assert (tmp_path / "new").stat().st_mode & 0o7777 == 0o600


def others_can_read(path: Path) -> None:
    path.write_text("")
    path.chmod(0o640)


def somebody_else_named(path: Path) -> None:
    path.write_text("")
    path.chmod(0o600)
    (path.parent / "other").hardlink_to(path)


def a_link(path: Path) -> None:
    (path.parent / "target").write_text("")
    path.symlink_to(path.parent / "target")


@pytest.mark.parametrize(
    "prepare", [others_can_read, somebody_else_named, a_link, Path.mkdir, os.mkfifo], ids=lambda each: each.__name__
)
def test_a_private_file_is_ours_alone(tmp_path: Path, prepare: Callable[[Path], object]) -> None:
    prepare(tmp_path / "file")
    with pytest.raises(OSError, match=r"is there|symbolic|directory|No such device"):
        open_private(tmp_path / "file")


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a file away")
def test_a_private_file_is_no_gift(tmp_path: Path) -> None:
    os.close(open_private(tmp_path / "file"))
    os.chown(tmp_path / "file", 12345, -1)
    with pytest.raises(OSError, match="is there"):
        open_private(tmp_path / "file")


def refusal(folder: Path, main: str = "", entry: str | None = None) -> ConfigError:
    (folder / "registry.d").mkdir(exist_ok=True)
    (folder / "config").write_text(main)
    if entry is not None:
        (folder / "registry.d" / "a.conf").write_text(entry)
    with pytest.raises(ConfigError) as caught:
        entries.load(config.load(folder / "config"))
    return caught.value


def test_fifos_are_refused(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    certificate, key = pki.Authority("root").issue().write(tmp_path, "a")
    for path in (fifo, Path("/dev/zero"), tmp_path):
        with pytest.raises(FileError, match="not a regular file"):
            load_bundle(path)
        with pytest.raises(CredentialError, match="not a regular file"):
            load_credential(path, key)
        with pytest.raises(CredentialError, match="not a regular file"):
            load_credential(certificate, path)
        with pytest.raises(ConfigError, match="not a regular file"):
            config.load(path)
    assert "fifo: not a regular file" in str(refusal(tmp_path, f"[authenticate.client]\nx509.truststore={fifo}\n"))
    os.mkfifo(tmp_path / "registry.d" / "b.conf")
    error = refusal(tmp_path)
    assert error.path == tmp_path / "registry.d" / "b.conf"


def test_paths_that_are_too_long(tmp_path: Path) -> None:
    error = refusal(tmp_path, f"[registry]\ndirectory={LONG}\n")
    assert (error.path, error.line) == (tmp_path / "config", 2)
    assert "too long" in error.reason
    for main in ("[authenticate.client]\nx509.truststore=", "[authenticate.client]\nx509.crl="):
        assert "too long" in refusal(tmp_path, main + LONG).reason
    entry = f"[entry a]\nalpn=h3\ncertificate={LONG}\nprivate_key={LONG}\n"
    assert "too long" in refusal(tmp_path, entry=entry).reason
    with pytest.raises(ConfigError, match="too long"):
        config.load(tmp_path / LONG / "config")


def test_a_file_without_an_end_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "config").open("wb") as file:
        file.truncate(1 << 33)
    with pytest.raises(ConfigError, match="longer than"):
        config.load(tmp_path / "config")


@pytest.mark.parametrize("end", ["\r\n", "\r"])
def test_other_line_ends(tmp_path: Path, end: str) -> None:
    (tmp_path / "config").write_bytes(f"[worker]{end}count=3{end}".encode())
    assert config.load(tmp_path / "config").worker.count == 3
