"""What the guest is made of. Whatever changes what is built belongs here or in `key`."""

from __future__ import annotations

import hashlib
import os
import tomllib
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
HERE = Path(__file__).parent

# Forky has the ktls-utils that we compare with; the kernel is the newest that Debian has for a stable release.
SUITE = "forky"
KERNEL_SUITE = "trixie-backports"
PACKAGES = (
    "binutils",  # the compiler of linux-headers-amd64 comes without an assembler
    "ca-certificates",
    "dbus-daemon",
    "e2fsprogs",
    "gnutls-bin",
    "iproute2",
    "keyutils",
    "kmod",
    "ktls-utils",
    "linux-headers-amd64",  # with its compiler: module.py builds modules inside the image
    "linux-modules-amd64",
    "make",
    "mount",
    "nfs-common",
    "nfs-kernel-server",
    "nvme-cli",
    "openssl",
    "procps",
    "python3",
    "strace",
    "util-linux",
)

# The host's programs, by the Debian packages that have them.
PROGRAMS = {
    "busybox": "busybox-static",
    "mkfs.ext4": "e2fsprogs",
    "mmdebstrap": "mmdebstrap",
    "qemu-system-x86_64": "qemu-system-x86",
    "unshare": "util-linux",
}
BUILT_BY = tuple(PROGRAMS)  # qemu too, for who waits for a build wants to boot it

# What the initrd loads to find its root, the shared folders and the way out for output; with what these need.
INITRD_MODULES = ("virtio_pci", "virtio_blk", "virtio_console", "ext4", "overlay", "9pnet_virtio", "9p")

# What the image is built by.
SOURCES = ("recipe.py", "image.py", "initrd.py", "initrd.sh")


def python_packages() -> tuple[str, ...]:
    """What the daemon and its tests need from PyPI: in Debian some are too old."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = (*project["dependencies"], *extras["aioquic"], *extras["test"])
    return tuple(sorted(name for name in wanted if not name.startswith(project["name"])))


def key() -> str:
    """The hash of the recipe: an image made by another recipe is not ours."""
    digest = hashlib.sha256("\n".join(python_packages()).encode())
    for name in SOURCES:
        digest.update((HERE / name).read_bytes())
    return digest.hexdigest()[:16]


def cache_directory() -> Path:
    """QUIC_TLSHD_VM_CACHE, or .cache/vm in the checkout."""
    return Path(os.environ.get("QUIC_TLSHD_VM_CACHE") or REPOSITORY / ".cache" / "vm").absolute()
