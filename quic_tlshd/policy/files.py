"""Opening the files that a configuration names, so that none of them can stop or exhaust the daemon."""

from __future__ import annotations

import os
import stat
from errno import EACCES, EFBIG, EINVAL, EPERM
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


def open_private(path: Path) -> int:
    """Open a file to append to, which nobody but us can read, and make it if it isn't there; OSError for all else.

    No link is followed: the folder may be one that others write to.
    """
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
    descriptor = os.open(path, flags, 0o600)
    status = os.fstat(descriptor)
    if status.st_mode == stat.S_IFREG | 0o600 and status.st_uid == os.geteuid() and status.st_nlink == 1:
        return descriptor
    os.close(descriptor)
    raise OSError(EPERM, "is there, and not a regular file of our own with mode 0600 and no other name")


def read_private(path: Path, limit: int) -> bytes:
    """As `read_regular`, of a file that is root's or our own user's and that only its owner may read; PermissionError
    for others."""
    with open_regular(path) as file:
        status = os.fstat(file.fileno())
        if status.st_uid not in (0, os.geteuid()) or status.st_mode & 0o077:
            raise PermissionError(EACCES, "not root's or the daemon's own, or others may read it (it should be 0600)")
        return _read(file, limit)


def read_regular(path: Path, limit: int) -> bytes:
    """The content of a regular file of at most `limit` bytes; OSError for all else."""
    with open_regular(path) as file:
        return _read(file, limit)


def _read(file: BinaryIO, limit: int) -> bytes:
    data = file.read(limit + 1)
    if len(data) > limit:
        raise OSError(EFBIG, f"longer than {limit} bytes")
    return data


Stamp = tuple[int, ...] | None


def stamp(path: Path) -> Stamp:
    """What differs when a file's content does, None if it can't be had. Take it before reading the file."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
