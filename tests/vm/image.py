"""Build the guest: root.ext4, vmlinuz and initrd, in the cache under the recipe's key. Needs root, as mmdebstrap does.

It is built beside its place and moved there when it is whole, so that a build that is cut leaves nothing to be taken
for an image.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.vm import recipe
from tests.vm.initrd import build_initrd

PARTIAL = "partial"  # where an image is built
KEPT = 2  # images of other recipes
SPARE = 128 << 20  # bytes in the file system beside the files
# What only people would read.
UNREAD = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/info/*", "/usr/share/locale/*")
ATTEMPTS = 3  # at what downloads: a mirror may be unreachable for a while, or change while it is read
PAUSE = 20.0  # seconds between them
PYTHON_PLATFORMS = ("manylinux_2_34_x86_64", "manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")


class BuildError(Exception):
    """The guest can't be built."""


@dataclass(frozen=True)
class Image:
    """A built guest. release: the kernel's, as `uname -r` will say."""

    directory: Path
    root: Path
    kernel: Path
    initrd: Path
    release: str


def ready() -> Image:
    """The guest of this recipe, built now if it is not in the cache."""
    cache = recipe.cache_directory()
    directory = cache / recipe.key()
    cache.mkdir(parents=True, exist_ok=True)
    with _locked(cache / "lock"):
        if not directory.is_dir():
            began = time.monotonic()
            print(f"Building the guest in {directory} ...", file=sys.stderr, flush=True)
            _forget_old(cache)
            partial = cache / PARTIAL
            partial.mkdir()
            _build(partial)
            partial.rename(directory)
            print(f"Built in {time.monotonic() - began:.0f} s.", file=sys.stderr, flush=True)
    os.utime(directory)
    release = (directory / "release").read_text().strip()
    return Image(directory, directory / "root.ext4", directory / "vmlinuz", directory / "initrd", release)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _forget_old(cache: Path) -> None:
    """Remove what is left of a cut build, and the images but for the last ones: each is a gigabyte. Those of other
    branches are kept, so that they needn't be built again whenever one goes from one to the other."""
    shutil.rmtree(cache / PARTIAL, ignore_errors=True)
    images = sorted((path for path in cache.iterdir() if path.is_dir()), key=lambda path: path.stat().st_mtime)
    for each in images[: max(0, len(images) - KEPT)]:
        shutil.rmtree(each)


def _build(directory: Path) -> None:
    if os.geteuid() != 0:
        raise BuildError("only root can build the guest")
    require(*recipe.BUILT_BY)
    root = directory / "root"
    mirror = _mirror()
    _patiently("Debian's packages", lambda: _bootstrap(root, mirror))
    release = _only(root / "usr" / "lib" / "modules")
    _patiently("Python's packages", lambda: _install_python_packages(root))
    shutil.copy(root / "usr" / "lib" / "modules" / release / "vmlinuz", directory / "vmlinuz")
    build_initrd(root, release, directory / "initrd", directory / "scratch")
    used = int(subprocess.check_output(["du", "-s", "--block-size=1", root], text=True).split()[0])
    with (directory / "root.ext4").open("wb") as file:
        file.truncate(used + used // 10 + SPARE)
    _run("mkfs.ext4", "-q", "-O", "^has_journal", "-m", "0", "-d", str(root), str(directory / "root.ext4"))
    (directory / "release").write_text(f"{release}\n")
    for leftover in (root, directory / "scratch"):
        shutil.rmtree(leftover)


def require(*programs: str) -> None:
    """BuildError unless all these are installed; it names the Debian packages of those that are not."""
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        packages = " ".join(dict.fromkeys(recipe.PROGRAMS[program] for program in missing))
        raise BuildError(f"{', '.join(missing)} not found: apt-get install {packages}")


def _patiently(what: str, download: Callable[[], None]) -> None:
    """Do it, and again if it fails."""
    for left in reversed(range(ATTEMPTS)):
        try:
            download()
        except BuildError as error:
            if not left:
                raise BuildError(f"{what} can't be had, {ATTEMPTS} attempts failed: {error}") from None
            print(f"{what} can't be had: {error}; another attempt in {PAUSE:g} s", file=sys.stderr, flush=True)
            time.sleep(PAUSE)
        else:
            return


def _bootstrap(root: Path, mirror: str) -> None:
    """Debian in `root`. The kernel's packages are pinned to their own suite, which apt would else pass by."""
    if root.exists():  # what an attempt has left
        shutil.rmtree(root)
    pin = f"Package: src:linux src:linux-signed-amd64\\nPin: release n={recipe.KERNEL_SUITE}\\nPin-Priority: 900\\n"
    # The kernel itself without linux-image, which would make an initrd that we don't use.
    kernel = 'chroot "$1" apt-get install -qq -y "linux-binary-$(ls "$1/usr/lib/modules")" >/dev/null'
    _run(
        # What it mounts in the root is gone when it ends, however it ends: leftovers are removed file by file.
        *("unshare", "--mount", "--pid", "--fork", "--kill-child"),
        "mmdebstrap",
        "--mode=root",
        "--variant=apt",
        "--quiet",
        # A mirror may be a snapshot, whose Release file is past its date; it must be signed all the same.
        "--aptopt=Acquire::Check-Valid-Until false",
        '--aptopt=Acquire::Retries "3"',
        f"--include={','.join(recipe.PACKAGES)}",
        f'--setup-hook=mkdir -p "$1/etc/apt/preferences.d"; printf \'{pin}\' >"$1/etc/apt/preferences.d/kernel"',
        *(f"--dpkgopt=path-exclude={pattern}" for pattern in UNREAD),
        f"--customize-hook={kernel}",
        recipe.SUITE,
        str(root),
        *(f"deb {mirror} {suite} main" for suite in (recipe.SUITE, recipe.KERNEL_SUITE)),
    )


def _mirror() -> str:
    """QUIC_TLSHD_VM_MIRROR, or the Debian mirror that this machine's apt uses."""
    given = os.environ.get("QUIC_TLSHD_VM_MIRROR")
    if given:
        return given
    if shutil.which("apt-get") is None:
        raise BuildError("there is no apt-get to ask for Debian's mirror: set QUIC_TLSHD_VM_MIRROR")
    known = subprocess.check_output(["apt-get", "indextargets", "--format", "$(LABEL) $(REPO_URI)"], text=True)
    for line in known.splitlines():
        label, _, uri = line.partition(" ")
        if label == "Debian":
            return uri
    raise BuildError("apt knows no Debian mirror (apt-get update?): set QUIC_TLSHD_VM_MIRROR")


def _install_python_packages(root: Path) -> None:
    """Wheels for the guest's Python, fetched with ours, and compiled by the guest's: an emulated machine is slow."""
    version = _only(root / "usr" / "lib", "python3.*").removeprefix("python")
    target = f"usr/local/lib/python{version}/dist-packages"
    platforms = [argument for name in PYTHON_PLATFORMS for argument in ("--platform", name)]
    pip = [sys.executable, "-m", "pip", "install", "-qq", "--disable-pip-version-check", "--root-user-action=ignore"]
    options = ["--only-binary=:all:", "--python-version", version, "--target", str(root / target)]
    _run(*pip, *options, *platforms, *recipe.python_packages())
    _run("chroot", str(root), f"python{version}", "-m", "compileall", "-q", "-j2", f"/{target}")


def _only(directory: Path, pattern: str = "*") -> str:
    """The name of the one thing in a folder."""
    names = [path.name for path in directory.glob(pattern)]
    if len(names) != 1:
        raise BuildError(f"one {pattern} was expected in {directory}: {names}")
    return names[0]


def _run(*command: str) -> None:
    try:
        subprocess.run(command, stdin=subprocess.DEVNULL, check=True)
    except subprocess.CalledProcessError as error:
        raise BuildError(f"{command[0]} failed with status {error.returncode}") from error
