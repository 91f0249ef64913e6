"""Keys in the kernel, by way of keyctl(1).

The keyrings of the kernel's consumers (`.nvme`, `.nfs`) are root's: what is added to one is found by both handlers.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.peers.pki import Issued

NVME, NFS, NFSD = ".nvme", ".nfs", ".nfsd"  # the kernel's
CONFIGURED = "scenarios"  # what `keyrings=` names in the handlers' configuration
READABLE = "0x3f1b0000"  # for its possessor everything; its owner, as a handler may be no more, may view, read, search


def keyctl(*arguments: str, data: bytes | None = None) -> str:
    """What keyctl prints; AssertionError if it fails."""
    done = subprocess.run(("keyctl", *arguments), input=data, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, f"keyctl {' '.join(arguments)}: {done.stderr.decode()}"
    return done.stdout.decode().strip()


def find(name: str) -> int:
    """The serial of a keyring of the kernel's, by its name. Linked to our session keyring, so that we may use it."""
    with open("/proc/keys") as keys:
        for line in keys:
            fields = line.split()
            if fields[7] == "keyring" and fields[8].rstrip(":") == name:
                serial = int(fields[0], 16)
                keyctl("link", str(serial), "@s")
                return serial
    raise AssertionError(f"the kernel has no keyring {name}")


@contextmanager
def made(name: str) -> Iterator[int]:
    """A keyring in our session keyring, which a handler may link into its own; its serial."""
    serial = int(keyctl("newring", name, "@s"))
    keyctl("setperm", str(serial), READABLE)
    try:
        yield serial
    finally:
        keyctl("unlink", str(serial), "@s")


def add(kind: str, description: str, payload: bytes, keyring: int) -> int:
    """A key of type `user` or `psk`; its serial."""
    serial = int(keyctl("padd", kind, description, str(keyring), data=payload))
    keyctl("setperm", str(serial), READABLE)
    return serial


@contextmanager
def added(kind: str, description: str, payload: bytes, keyring: int) -> Iterator[int]:
    """The same, for as long as it is needed."""
    serial = add(kind, description, payload, keyring)
    try:
        yield serial
    finally:
        keyctl("unlink", str(serial), str(keyring))


@contextmanager
def credential(issued: Issued, keyring: int) -> Iterator[dict[str, int]]:
    """A certificate and its private key, DER in keys of type `user`; their serials, by hsgen's names for them."""
    der = issued.private_key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    with added("user", "cert", issued.chain[0], keyring) as cert, added("user", "privkey", der, keyring) as privkey:
        yield {"cert": cert, "privkey": privkey}


def nvme_identity(host: str, subsystem: str, digest: str = "digest", *, hmac: int = 1) -> str:
    """How NVMe names a retained key for SHA-256 (hmac 1) or SHA-384 (2), by which handlers know its hash."""
    return f"NVMe1R{hmac:02} {host} {subsystem} {digest}"
