"""Files that are none, and paths that can't be: each must be an error with its place, and none may stop the daemon."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from quic_tlshd.policy import config, entries
from quic_tlshd.policy.config import ConfigError
from quic_tlshd.policy.credentials import CredentialError, load_credential
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
