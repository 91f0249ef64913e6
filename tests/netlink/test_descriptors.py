"""Descriptors of others: recognized without looking at a file, closed without waiting."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from netlink.descriptors import close_elsewhere, still_open, why_no_socket
from tests.netlink.lingering import Lingering


def wait_closed(owner: object) -> None:
    deadline = time.monotonic() + 5
    while still_open(owner):
        assert time.monotonic() < deadline
        time.sleep(0.001)


@pytest.fixture
def lingering() -> Iterator[Lingering]:
    with Lingering() as made:
        yield made


def test_sockets_are_sockets_and_stay_open() -> None:
    for family, kind in [(socket.AF_UNIX, socket.SOCK_SEQPACKET), (socket.AF_INET, socket.SOCK_STREAM)]:
        with socket.socket(family, kind) as transport:
            assert why_no_socket(transport.fileno()) is None
            os.fstat(transport.fileno())


def test_what_is_no_socket_is_told_and_stays_open(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(path)
    before = len(os.listdir("/proc/self/fd"))
    fds = [*os.pipe(), os.open(__file__, os.O_RDONLY), os.open(path, os.O_PATH), os.open("/", os.O_PATH)]
    assert all(why_no_socket(fd) for fd in fds)
    assert len(os.listdir("/proc/self/fd")) == before + len(fds)
    for fd in fds:
        os.close(fd)
    assert why_no_socket(fds[0]) == "Bad file descriptor"


def test_a_file_is_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    def fstat(fd: int) -> None:
        raise AssertionError("fstat waits for the file system")

    reader, writer = os.pipe()
    with monkeypatch.context() as patched:
        patched.setattr(os, "fstat", fstat)
        patched.setattr(os, "stat", fstat)
        assert why_no_socket(reader)
    os.close(reader)
    os.close(writer)


def test_what_blocks_blocks_only_its_owner(lingering: Lingering) -> None:
    reader, writer = os.pipe()
    start = time.monotonic()
    close_elsewhere(lingering.detach(), "one")
    close_elsewhere(writer, "another")
    assert os.read(reader, 1) == b"", "it was closed"
    assert time.monotonic() - start < lingering.seconds / 2
    wait_closed("another")
    assert still_open("one") == 1
    lingering.release()
    wait_closed("one")
    os.close(reader)


def test_it_never_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    close_elsewhere(-1, "never")
    close_elsewhere(1 << 20, "never")
    wait_closed("never")

    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    reader, writer = os.pipe()
    close_elsewhere(writer, "no thread")
    assert os.read(reader, 1) == b""
    close_elsewhere(reader, "no thread")
    assert still_open("no thread") == 0


def test_a_thread_that_has_ended_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("netlink.descriptors.IDLE", 0.01)
    for _ in range(3):
        reader, writer = os.pipe()
        close_elsewhere(writer, "idle")
        assert os.read(reader, 1) == b""
        os.close(reader)
        wait_closed("idle")
        deadline = time.monotonic() + 5
        while any(thread.name == "close for idle" for thread in threading.enumerate()):
            assert time.monotonic() < deadline
            time.sleep(0.005)


def test_the_lingering_socket_does_block(lingering: Lingering) -> None:
    """What the tests above stand on."""
    thread = threading.Thread(target=os.close, args=(lingering.detach(),))
    thread.start()
    thread.join(0.2)
    assert thread.is_alive()
    lingering.release()
    thread.join(5)
    assert not thread.is_alive()
