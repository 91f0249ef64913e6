"""Keys in the kernel, by way of keyctl(1).

The keyrings of the kernel's consumers (`.nvme`, `.nfs`) are root's: what is added to one is found by both handlers.
"""

from __future__ import annotations

import subprocess

NVME = ".nvme"
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


def new(name: str) -> int:
    """A keyring in our session keyring; its serial."""
    return int(keyctl("newring", name, "@s"))


def add(kind: str, description: str, payload: bytes, keyring: int) -> int:
    """A key of type `user` or `psk`; its serial."""
    serial = int(keyctl("padd", kind, description, str(keyring), data=payload))
    keyctl("setperm", str(serial), READABLE)
    return serial


def nvme_identity(host: str, subsystem: str, digest: str = "digest") -> str:
    """How NVMe names a retained key for SHA-256, which is how handlers of kernel TCP sockets know its hash."""
    return f"NVMe1R01 {host} {subsystem} {digest}"
