"""Reading the files that a configuration names, so that none of them can stop or exhaust the daemon."""

from __future__ import annotations

import os
import stat
from errno import EFBIG, EINVAL
from pathlib import Path
from typing import BinaryIO


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file for reading; OSError for all else, FIFOs and devices among it.

    Symbolic links are followed, as certbot's live/ needs, and the file that was really opened is what gets judged.
    """
    # Without O_NONBLOCK a FIFO of that name would stop us here.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return open(descriptor, "rb")
    os.close(descriptor)
    raise OSError(EINVAL, "not a regular file")


def read_regular(path: Path, limit: int) -> bytes:
    """The content of a regular file of at most `limit` bytes; OSError for all else."""
    with open_regular(path) as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise OSError(EFBIG, f"longer than {limit} bytes")
    return data
