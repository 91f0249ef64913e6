"""Sockets in another network namespace, of a process that the test starts in one of its own."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator

import pytest

from netlink.namespace import made_in


def ours() -> str:
    return os.readlink("/proc/thread-self/ns/net")


@pytest.fixture
def another() -> Iterator[str]:
    """The file of a network namespace that is not ours."""
    with subprocess.Popen(["unshare", "--net", "cat"], stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        path = f"/proc/{process.pid}/ns/net"
        deadline = time.monotonic() + 10
        while process.poll() is None and os.readlink(path) == ours():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        if process.poll() is not None:
            pytest.skip(f"no network namespace can be made here: {(process.communicate()[1]).decode()}")
        yield path
        process.communicate()


def test_what_is_made_there_belongs_there(another: str) -> None:
    home = ours()
    namespace = os.open(another, os.O_RDONLY)
    try:
        assert made_in(namespace, ours) == os.readlink(another) != home
        assert ours() == home
        with pytest.raises(FileNotFoundError):
            made_in(namespace, lambda: os.stat("/no/such/file"))
    finally:
        os.close(namespace)


def test_what_is_no_namespace() -> None:
    nothing = os.open("/dev/null", os.O_RDONLY)
    try:
        with pytest.raises(OSError, match="Invalid argument"):
            made_in(nothing, ours)
    finally:
        os.close(nothing)
