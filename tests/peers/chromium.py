"""Headless Chromium, which loads one page over QUIC and nothing else, and prints the DOM that came of it."""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import subprocess
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
TIMEOUT = 60.0  # seconds
OPTIONS = (
    "--headless",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
)


def find() -> str | None:
    """The browser's path, None if there is none."""
    return next((path for path in map(shutil.which, NAMES) if path), None)


def pin(certificate: x509.Certificate) -> str:
    """The certificate's key as --ignore-certificate-errors-spki-list has it: base64 of SHA-256 of its SPKI."""
    spki = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(hashlib.sha256(spki).digest()).decode()


def load(browser: str, port: int, certificate: x509.Certificate, profile: Path) -> tuple[str, str]:
    """(DOM, what it wrote to standard error) of https://localhost:PORT/, to which it may speak QUIC only.

    certificate: the one that it accepts although no authority that it knows has issued it.
    profile: a folder that does not exist yet.
    """
    options = [
        *OPTIONS,
        f"--user-data-dir={profile}",
        f"--origin-to-force-quic-on=localhost:{port}",
        f"--ignore-certificate-errors-spki-list={pin(certificate)}",
        "--host-resolver-rules=MAP localhost 127.0.0.1",
        "--dump-dom",
    ]
    if os.geteuid() == 0:
        options.append("--no-sandbox")
    done = subprocess.run(
        [browser, *options, f"https://localhost:{port}/"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    return done.stdout, done.stderr
