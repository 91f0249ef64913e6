"""Boot the guest, let it run one command, and give back the command's output and exit status.

The guest sees two shared folders, /checkout (read-only) and /job, in which it finds the command and leaves the status.
Output comes out of a virtio port as the command writes it; the kernel's console goes to a file, of which the end is
shown if the guest does not get as far as leaving a status.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from tests.vm import module
from tests.vm.image import Image, require
from tests.vm.recipe import HERE, REPOSITORY

QEMU = "qemu-system-x86_64"
MEMORY = "6G"  # the kernel's cap of pending handshakes grows with it: 15 with 6 GiB, 3 with 1 GiB
CPUS = 2
BOOT_TIMEOUT = 180.0  # seconds; a boot takes 8 on a machine that has nothing else to do
CONSOLE_TAIL = 40  # lines shown of a boot that failed

TIMED_OUT = 124  # exit statuses, as timeout(1) and env(1) have them
NOT_RUN = 125


def machine(image: Image, job: Path) -> list[str]:
    """The command that boots the guest: it shares the folder `job`, writes the guest's output to its own, and ends when
    the guest does."""
    require(QEMU)
    shutil.copy(module.built(image, HERE / "hsgen"), job / "hsgen.ko")

    def share(tag: str, path: Path, options: str) -> list[str]:
        return ["-virtfs", f"local,path={path},mount_tag={tag},security_model=none,multidevs=remap{options}"]

    return [
        *(QEMU, "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"),
        *("-machine", "q35", "-accel", accelerator(), "-cpu", "max", "-smp", str(CPUS), "-m", MEMORY),
        *("-kernel", str(image.kernel), "-initrd", str(image.initrd)),
        *("-append", "console=ttyS0 quiet panic=-1 random.trust_cpu=on mitigations=off nokaslr"),
        *("-drive", f"file={image.root},format=raw,if=virtio,readonly=on"),
        *share("checkout", REPOSITORY, ",readonly=on"),
        *share("job", job, ""),
        *("-serial", f"file:{job / 'console'}"),
        *("-chardev", "stdio,id=output,signal=off"),
        *("-device", "virtio-serial-pci", "-device", "virtserialport,chardev=output,name=output"),
        *("-device", "virtio-rng-pci"),
    ]


def run(
    image: Image,
    command: Sequence[str],
    seconds: float,
    machine: Callable[[Image, Path], list[str]] = machine,
) -> int:
    """Run `command` in a guest that is booted for it; its exit status, or TIMED_OUT or NOT_RUN."""
    with tempfile.TemporaryDirectory(prefix="quic-tlshd-vm-") as name:
        job = Path(name)
        (job / "command").write_text(f"exec {shlex.join(command)}\n")
        stopped = _boot(machine(image, job), job, seconds)
        if (job / "status").exists():
            return int((job / "status").read_text())
        print(f"the guest {stopped or 'ended without a status'}; its console:")
        console = (job / "console").read_text(errors="replace") if (job / "console").exists() else ""
        print("\n".join(console.splitlines()[-CONSOLE_TAIL:]), flush=True)
        return TIMED_OUT if stopped and (job / "booted").exists() else NOT_RUN


def accelerator() -> str:
    """KVM only where it can be relied on: a nested one may accept a guest and then not run it. QUIC_TLSHD_VM_ACCEL."""
    given = os.environ.get("QUIC_TLSHD_VM_ACCEL")
    if given:
        return given
    nested = " hypervisor" in Path("/proc/cpuinfo").read_text()
    return "kvm" if os.access("/dev/kvm", os.R_OK | os.W_OK) and not nested else "tcg,thread=multi"


def _boot(command: list[str], job: Path, seconds: float) -> str:
    """Run a machine until it ends, our standard output being the guest's; how it ended, in words, "" if by itself."""
    sys.stdout.flush()
    began = time.monotonic()
    previous = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    # An input that never ends: at its end qemu would close the port, and the guest wait for ever to write.
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        try:
            while True:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(0.2)
                    return ""
                elapsed = time.monotonic() - began
                if elapsed > seconds:
                    return f"was stopped after {seconds:g} s"
                if elapsed > BOOT_TIMEOUT and not (job / "booted").exists():
                    return f"did not boot in {BOOT_TIMEOUT:g} s"
        finally:
            process.kill()
            signal.signal(signal.SIGTERM, previous)
