"""Build a folder of C into a module for the guest's kernel, inside the guest's image: there its compiler is.

Kept beside the image under the hash of the folder, so that a change of the module does not rebuild the image.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

from tests.vm.image import BuildError, Image

# The image is mounted read-only, so that it stays what it was; its /mnt takes the source and what is made of it.
_BUILD = """
set -e
cd "$2"
mkdir root
mount -o loop,ro "$1" root
mount --bind /dev root/dev
mount -t proc proc root/proc
mount -t tmpfs tmp root/tmp
mount --bind source root/mnt
exec chroot root make -s -j2 -C "/lib/modules/$3/build" M=/mnt modules
"""


def built(image: Image, source: Path) -> Path:
    """The path of the module that `source` (C and a Kbuild file) makes; the file is called as the folder is."""
    digest = hashlib.sha256()
    for path in sorted(source.iterdir()):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    target = image.directory / f"{source.name}-{digest.hexdigest()[:16]}.ko"
    if not target.exists():
        _build(image, source, target)
    return target


def _build(image: Image, source: Path, target: Path) -> None:
    if os.geteuid() != 0:
        raise BuildError("only root can build a kernel module")
    scratch = image.directory / f"building-{source.name}-{os.getpid()}"
    try:
        scratch.mkdir()
        shutil.copytree(source, scratch / "source")
        # In a mount namespace of its own: all is unmounted when it ends, however it ends.
        command = ["unshare", "--mount", "sh", "-c", _BUILD, "sh", image.root, scratch, image.release]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if done.returncode:
            raise BuildError(f"the module {source.name} can't be built:\n{done.stdout}{done.stderr}")
        (scratch / "source" / f"{source.name}.ko").rename(target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
