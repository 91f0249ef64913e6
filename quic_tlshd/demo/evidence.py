"""Looks into a running process for private keys: at its open files, and in its memory."""

from __future__ import annotations

import os
import re
from pathlib import Path

_WRITABLE = re.compile(r"([0-9a-f]+)-([0-9a-f]+) rw")  # proc_pid_maps(5): keys can only be where something was written
_STEP = 1 << 20


def open_files(pid: int) -> list[str]:
    """What the process has open, as /proc/PID/fd says. OSError if that can't be read."""
    directory = Path(f"/proc/{pid}/fd")
    return sorted({os.readlink(each) for each in directory.iterdir()})


def search_memory(pid: int, secrets: list[bytes]) -> tuple[int, int]:
    """How often any of the secrets is in the process's memory, and how many bytes were looked at.

    A big number may be in memory with either end first, so both are looked for. OSError if the memory can't be read.
    """
    needles = [form for secret in secrets for form in (secret, secret[::-1])]
    overlap = max(map(len, needles)) - 1
    found = seen = 0
    regions = [
        match.groups() for match in map(_WRITABLE.match, Path(f"/proc/{pid}/maps").read_text().splitlines()) if match
    ]
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for first, last in ((int(low, 16), int(high, 16)) for low, high in regions):
            tail = b""
            for start in range(first, last, _STEP):
                try:
                    block = os.pread(memory.fileno(), min(_STEP, last - start), start)
                except OSError:
                    break  # a region of a device, or gone by now
                seen += len(block)
                block = tail + block
                found += sum(block.count(needle) for needle in needles)
                tail = block[-overlap:]
    return found, seen
