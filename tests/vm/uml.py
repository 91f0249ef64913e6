"""The guest's kernel as a program of the host, User-Mode Linux: for measuring, where qemu has to emulate the processor.

It is built from Debian's source of the kernel that the image has, inside the image, with what uml/config names and
with hsgen in it. The guest's processes are run by the host's processor itself; only their system calls, page faults
and switches cost more than they do elsewhere.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from tests.vm.image import BuildError, Image
from tests.vm.recipe import HERE, REPOSITORY

MEMORY = "6G"  # as qemu.py has it; taken from the host as the guest touches it
SOURCES = tuple(HERE / name for name in ("uml/build.sh", "uml/config", "hsgen/hsgen.c"))


def machine(image: Image, job: Path) -> list[str]:
    """See qemu.machine."""
    kernel = [
        *(str(built(image)), f"mem={MEMORY}", f"ncpus={cpus()}", "seccomp=on", "quiet"),
        # The host's own files are its first root, read-only: boot.sh is among them.
        *("root=/dev/root", "rootfstype=hostfs", "rootflags=/", "ro", f"init={HERE / 'uml' / 'boot.sh'}"),
        # rc: read-only and without a lock, for other guests have the same image.
        *(f"ubd0rc={image.root}", "con=null", "con0=null,fd:1", "ssl=null", "ssl0=null,fd:3"),
        # What the kernel doesn't know is the environment of its first process.
        *(f"CHECKOUT={REPOSITORY}", f"JOB={job}", "OUTPUT=/dev/ttyS0"),
    ]
    return ["sh", "-c", 'exec "$@" 3>&1 >"$0" 2>&1', str(job / "console"), *kernel]


def cpus() -> int:
    """QUIC_TLSHD_VM_CPUS, or 2. With one, processes wake each other in 25 µs, with more in 200: each is a thread of the
    host's that must be woken first."""
    return int(os.environ.get("QUIC_TLSHD_VM_CPUS") or 2)


def built(image: Image) -> Path:
    """The path of the kernel, built now if it is not beside the image."""
    digest = hashlib.sha256()
    for path in SOURCES:
        digest.update(path.read_bytes())
    target = image.directory / f"linux-{digest.hexdigest()[:16]}"
    if not target.exists():
        _build(image, target)
    return target


def _build(image: Image, target: Path) -> None:
    if os.geteuid() != 0:
        raise BuildError("only root can build a kernel inside the image")
    began = time.monotonic()
    scratch = image.directory / f"building-linux-{os.getpid()}"
    print(f"Building {target} (some minutes) ...", file=sys.stderr, flush=True)
    try:
        (scratch / "source").mkdir(parents=True)
        for path in SOURCES:
            shutil.copy(path, scratch / "source")
        # In a mount namespace of its own: all is unmounted when it ends, however it ends.
        arguments = ["unshare", "--mount", "sh", str(HERE / "uml" / "build.sh"), str(image.root), str(scratch)]
        with (scratch / "log").open("wb") as log:
            done = subprocess.run(arguments, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=False)
        if done.returncode:
            raise BuildError(f"the kernel can't be built:\n{(scratch / 'log').read_text(errors='replace')[-4000:]}")
        (scratch / "source" / "linux").rename(target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    print(f"Built in {time.monotonic() - began:.0f} s.", file=sys.stderr, flush=True)
