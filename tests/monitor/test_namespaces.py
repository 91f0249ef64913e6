"""Which network namespaces have a socket: real ones, mounted as ip-netns(8) does it; the sockets in them are played."""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from errno import EPERM
from pathlib import Path

import pytest

from netlink.family import Family
from quic_tlshd.monitor import namespaces
from quic_tlshd.monitor.namespaces import Namespaces
from quic_tlshd.policy.config import Netns
from tests.netlink.test_namespace import another  # noqa: F401 - a fixture


class Played:
    """KernelHandshakeSocket's face; `joined` has one for each namespace that is served, by its inode."""

    joined: dict[int, Played] = {}  # noqa: RUF012
    permitted = True

    def __init__(self, on_accept: Callable[[object], None]) -> None:
        self._inode = 0

    def join(self, family: Family, namespace: int | None = None) -> None:
        if not self.permitted:
            raise PermissionError(EPERM, "Operation not permitted")
        self._inode = 0 if namespace is None else os.fstat(namespace).st_ino
        assert self._inode not in self.joined
        self.joined[self._inode] = self

    def leave(self) -> None:
        del self.joined[self._inode]

    def close(self) -> None:
        del self.joined[self._inode]


@pytest.fixture
async def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Namespaces]:
    async def resolve(name: str) -> Family:
        return Family(30, {"tlshd": 5})

    monkeypatch.setattr(namespaces, "NAMED", tmp_path / "netns")
    monkeypatch.setattr(namespaces, "KernelHandshakeSocket", Played)
    monkeypatch.setattr(namespaces, "resolve_family", resolve)
    monkeypatch.setattr(Played, "permitted", True)
    opened = Namespaces(lambda accept, sock, name: None)
    await opened.open()
    assert Played.joined.keys() == {0}
    yield opened
    opened.close()
    assert not Played.joined


@pytest.fixture
def mounts(tmp_path: Path) -> Iterator[Callable[[str, str], int]]:
    """Mounts a namespace's file under a name, as ip-netns(8) does, and gives its inode."""
    mounted = []

    def mount(source: str, name: str) -> int:
        target = tmp_path / "netns" / name
        target.parent.mkdir(exist_ok=True)
        target.touch()
        done = subprocess.run(["mount", "--bind", source, target], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"nothing can be mounted here: {done.stderr}")
        mounted.append(target)
        return target.stat().st_ino

    yield mount
    for target in mounted:
        subprocess.run(["umount", "--lazy", target], capture_output=True)


async def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


async def test_one_that_appears_and_goes(
    served: Namespaces,
    another: str,  # noqa: F811
    mounts: Callable[[str, str], int],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    served.use(Netns(("blue",)))
    served.use(Netns(("blue",)))
    assert caplog.messages == ["network namespace blue is not served: there is none yet"]
    blue = mounts(another, "blue")
    mounts(another, "not wanted")
    await until(lambda: Played.joined.keys() == {0, blue})
    subprocess.run(["umount", tmp_path / "netns" / "blue"], check=True)
    await until(lambda: Played.joined.keys() == {0})
    assert [line for line in caplog.messages if line.endswith("is served no longer")] == [
        "network namespace blue is served no longer"
    ]


async def test_all(
    served: Namespaces,
    another: str,  # noqa: F811
    mounts: Callable[[str, str], int],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Each once, however many names it has, and ours, which is served anyway, not again."""
    blue = mounts(another, "blue")
    mounts(another, "azure")
    mounts("/proc/self/ns/net", "home")
    served.use(Netns(all=True))
    assert Played.joined.keys() == {0, blue}
    served.use(Netns())
    assert Played.joined.keys() == {0}
    served.use(Netns(("blue", "home")))
    assert Played.joined.keys() == {0, blue}
    assert not [line for line in caplog.messages if "not served" in line]


async def test_what_can_not_be_entered_is_told_once(
    served: Namespaces,
    another: str,  # noqa: F811
    mounts: Callable[[str, str], int],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    blue = mounts(another, "blue")
    monkeypatch.setattr(Played, "permitted", False)
    for _ in range(3):
        served.use(Netns(all=True))
    assert caplog.messages == ["network namespace blue is not served: Operation not permitted (CAP_SYS_ADMIN)"]
    monkeypatch.setattr(Played, "permitted", True)
    served.use(Netns(all=True))
    assert Played.joined.keys() == {0, blue}
