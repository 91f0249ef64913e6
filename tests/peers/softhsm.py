"""A PKCS #11 token in software, SoftHSM's, for a whole test run: a module is told only once where its tokens are."""

from __future__ import annotations

import atexit
import os
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import pytest

from tests.peers import pki

MODULES = [
    path
    for folder in (Path("/usr/lib/softhsm"), Path("/usr/lib64/softhsm"), Path("/usr/lib64/pkcs11"))
    if (path := folder / "libsofthsm2.so").exists()
]
PIN = "5678"
LABEL = "a token"

needed = pytest.mark.skipif(
    not (MODULES and shutil.which("softhsm2-util")), reason="SoftHSM (softhsm2) is not installed"
)
# python-pkcs11 can't end what it was doing in a session that is gone, and says so.
quiet = pytest.mark.filterwarnings("ignore:Exception ignored in. 'pkcs11:pytest.PytestUnraisableExceptionWarning")


class SoftHsm:
    """One token, and the files that are needed to use it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tokens = folder / "tokens"
        self.tokens.mkdir()
        (folder / "conf").write_text(f"directories.tokendir = {self.tokens}\nlog.level = ERROR\n")
        os.environ["SOFTHSM2_CONF"] = str(folder / "conf")
        self.pin = folder / "pin"
        self.pin.write_text(PIN + "\n")
        self.pin.chmod(0o600)
        _run("--init-token", "--free", "--label", LABEL, "--so-pin", "1234", "--pin", PIN)
        self._number = 0

    def store(self, key: pki.PrivateKey) -> str:
        """Put the key into the token; its URL, by label and number."""
        self._number += 1
        file = self.folder / "key.pem"
        file.touch(0o600)
        file.write_bytes(pki.key_pem(key))
        name = f"key;{self._number}"  # a character that has to be encoded
        _run("--import", str(file), "--token", LABEL, "--label", name, "--id", f"{self._number:04x}", "--pin", PIN)
        file.unlink()
        return self.url(
            f"object=key%3B{self._number};id=%{self._number >> 8:02x}%{self._number & 255:02x};type=private"
        )

    def url(self, key: str, *, token: str = LABEL.replace(" ", "%20"), pin: Path | None = None) -> str:
        """A URL for a key of the token. pin: the PIN's file."""
        source = f"pin-source=file://{pin or self.pin}"
        return f"pkcs11:token={token};{key}?module-path={MODULES[0]}&{source}"


def _run(*arguments: str) -> None:
    subprocess.run(["softhsm2-util", *arguments], check=True, capture_output=True)


@cache
def token() -> SoftHsm:
    folder = Path(tempfile.mkdtemp(prefix="quic-tlshd-softhsm-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return SoftHsm(folder)
