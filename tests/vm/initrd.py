"""The initrd: busybox, the modules that find the root, and initrd.sh."""

from __future__ import annotations

import lzma
import shutil
import subprocess
from pathlib import Path

from tests.vm.recipe import HERE, INITRD_MODULES


def build_initrd(root: Path, release: str, target: Path, scratch: Path) -> None:
    """Write the initrd for kernel `release`, whose modules are in `root`. `scratch` is an empty folder's name."""
    for name in ("bin", "modules", "dev", "proc", "sys", "mnt"):
        (scratch / name).mkdir(parents=True)
    shutil.copy(_busybox(), scratch / "bin" / "busybox")
    shutil.copy(HERE / "initrd.sh", scratch / "init")
    (scratch / "init").chmod(0o755)
    directory = root / "usr" / "lib" / "modules" / release
    for number, path in enumerate(in_loading_order(directory, INITRD_MODULES)):
        (scratch / "modules" / f"{number:03}.ko").write_bytes(_uncompressed(directory / path))
    names = "\n".join(sorted(str(path.relative_to(scratch)) for path in scratch.rglob("*")))
    with target.open("wb") as file:
        command = [_busybox(), "cpio", "-o", "-H", "newc"]
        subprocess.run(command, cwd=scratch, input=names.encode(), stdout=file, stderr=subprocess.DEVNULL, check=True)


def in_loading_order(directory: Path, wanted: tuple[str, ...]) -> list[str]:
    """The files of the modules `wanted` and of all that they need, what is needed first; built-in ones are left out."""
    needs: dict[str, list[str]] = {}
    for line in (directory / "modules.dep").read_text().splitlines():
        path, _, needed = line.partition(":")
        needs[path] = needed.split()
    paths = {_module_name(path): path for path in needs}
    builtin = {_module_name(path) for path in (directory / "modules.builtin").read_text().split()}
    order: dict[str, None] = {}
    for name in wanted:
        if name in paths:
            # modules.dep lists the nearest need first.
            order.update(dict.fromkeys([*reversed(needs[paths[name]]), paths[name]]))
        elif name not in builtin:
            raise FileNotFoundError(f"the kernel has no module {name}")
    return list(order)


def _module_name(path: str) -> str:
    return Path(path).name.partition(".ko")[0].replace("-", "_")


def _uncompressed(path: Path) -> bytes:
    data = path.read_bytes()
    return lzma.decompress(data) if path.suffix == ".xz" else data


def _busybox() -> str:
    found = shutil.which("busybox")
    assert found is not None, "image.py looks for it first"
    return found
