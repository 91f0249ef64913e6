"""What the host's side makes of a guest that works, fails, hangs or can't be built; qemu and the build are played."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.vm import image, module, qemu, uml
from tests.vm.initrd import in_loading_order

# Finds the job folder among qemu's arguments, as the guest does by its tag.
FIND_JOB = "for argument; do case $argument in *mount_tag=job*) job=${argument#*path=}; job=${job%%,*};; esac; done\n"


@pytest.fixture
def guest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> image.Image:
    built = tmp_path / "hsgen.ko"
    built.touch()
    monkeypatch.setattr(module, "built", lambda image, source: built)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    names = (tmp_path / name for name in ("root.ext4", "vmlinuz", "initrd"))
    return image.Image(tmp_path, *names, release="7.0")


def play(guest: image.Image, script: str) -> None:
    program = guest.directory / "qemu-system-x86_64"
    program.write_text(f"#!/bin/sh\n{FIND_JOB}{script}\n")
    program.chmod(0o755)


def test_output_and_status(guest: image.Image, capfd: pytest.CaptureFixture[str]) -> None:
    play(guest, 'touch "$job/booted"; sh "$job/command"; echo $? >"$job/status"')
    assert qemu.run(guest, ["sh", "-c", "echo 'two  words'; exit 7"], 20) == 7
    assert capfd.readouterr().out == "two  words\n"


def test_panic(guest: image.Image, capfd: pytest.CaptureFixture[str]) -> None:
    """A guest that ends without a status is a failure, and its console says why."""
    play(guest, 'echo "Kernel panic" >"$job/console"')
    assert qemu.run(guest, ["true"], 20) == qemu.NOT_RUN
    assert capfd.readouterr().out.splitlines()[-1] == "Kernel panic"


def test_no_boot(guest: image.Image, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qemu, "BOOT_TIMEOUT", 0.1)
    play(guest, "exec sleep 60")
    assert qemu.run(guest, ["true"], 20) == qemu.NOT_RUN
    assert "did not boot" in capfd.readouterr().out


def test_command_takes_too_long(guest: image.Image) -> None:
    play(guest, 'touch "$job/booted"; exec sleep 60')
    assert qemu.run(guest, ["true"], 0.5) == qemu.TIMED_OUT


def test_user_mode_linux(
    guest: image.Image, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same of a guest whose kernel is a program: it is told of the job in the environment of its first process."""
    kernel = guest.directory / "linux"
    script = 'echo early; touch "$JOB/booted"; sh "$JOB/command" >&3; echo $? >"$JOB/status"'
    kernel.write_text(
        f'#!/bin/sh\nfor argument; do case $argument in JOB=*) export "$argument";; esac; done\n{script}\n'
    )
    kernel.chmod(0o755)
    monkeypatch.setattr(uml, "built", lambda image: kernel)
    assert qemu.run(guest, ["sh", "-c", "echo 'two  words'; exit 7"], 20, uml.machine) == 7
    assert capfd.readouterr().out == "two  words\n", "the kernel's own words are not the guest's"


def whole(directory: Path) -> None:
    (directory / "release").write_text("7.0\n")


def test_cut_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a cut build leaves is not taken for a guest, and is gone after the next one."""

    def cut(directory: Path) -> None:
        (directory / "root.ext4").write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setenv("QUIC_TLSHD_VM_CACHE", str(tmp_path))
    monkeypatch.setattr(image, "_build", cut)
    with pytest.raises(KeyboardInterrupt):
        image.ready()
    monkeypatch.setattr(image, "_build", whole)
    directory = image.ready().directory
    assert [path for path in tmp_path.iterdir() if path.is_dir()] == [directory]
    assert not (directory / "root.ext4").exists()
    monkeypatch.setattr(image, "_build", cut)
    assert image.ready().release == "7.0", "it is built once"


def test_other_recipes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The guests that were used last are kept: who goes from branch to branch doesn't build them again and again."""
    monkeypatch.setenv("QUIC_TLSHD_VM_CACHE", str(tmp_path))
    monkeypatch.setattr(image, "_build", whole)
    for age in range(5):
        other = tmp_path / f"other {age}"
        other.mkdir()
        os.utime(other, (age, age))
    used = image.ready().directory
    assert {path.name for path in tmp_path.iterdir() if path.is_dir()} == {"other 3", "other 4", used.name}


def test_download_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    """A mirror that fails is asked again; one that goes on failing is a failure, and it is said of what."""
    attempts = iter([False, True, False, False, False])

    def bootstrap(_root: Path, mirror: str) -> None:
        assert mirror == "http://mirror.test/"
        if not next(attempts):
            raise image.BuildError("mmdebstrap failed with status 25")
        raise KeyboardInterrupt

    monkeypatch.setenv("QUIC_TLSHD_VM_CACHE", str(tmp_path))
    monkeypatch.setenv("QUIC_TLSHD_VM_MIRROR", "http://mirror.test/")
    monkeypatch.setattr(image, "_bootstrap", bootstrap)
    monkeypatch.setattr(image, "require", lambda *_: None)
    monkeypatch.setattr(image.os, "geteuid", lambda: 0)
    monkeypatch.setattr(image, "PAUSE", 0.0)
    with pytest.raises(KeyboardInterrupt):
        image.ready()
    assert "Debian's packages can't be had: mmdebstrap failed with status 25" in capfd.readouterr().err
    with pytest.raises(image.BuildError, match="3 attempts failed: mmdebstrap failed with status 25"):
        image.ready()


def test_program_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """All that is missing is named at once, before anything is downloaded."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(image.BuildError, match="mmdebstrap, busybox not found: apt-get install mmdebstrap busybox-st"):
        image.require("mmdebstrap", "busybox")


def test_loading_order(tmp_path: Path) -> None:
    """What a module needs is loaded before it; what is built into the kernel is not loaded at all."""
    (tmp_path / "modules.dep").write_text(
        "kernel/fs/9p.ko.xz: kernel/net/9pnet.ko.xz kernel/fs/netfs.ko.xz\n"
        "kernel/net/9pnet.ko.xz: kernel/fs/netfs.ko.xz\n"
        "kernel/fs/netfs.ko.xz:\n"
    )
    (tmp_path / "modules.builtin").write_text("kernel/drivers/virtio-pci.ko\n")
    expected = ["kernel/fs/netfs.ko.xz", "kernel/net/9pnet.ko.xz", "kernel/fs/9p.ko.xz"]
    assert in_loading_order(tmp_path, ("virtio_pci", "9p")) == expected
    with pytest.raises(FileNotFoundError, match="virtio_blk"):
        in_loading_order(tmp_path, ("virtio_blk",))
