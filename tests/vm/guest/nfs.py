"""An NFS server in the namespace `server` and mounts in `client`: NFSv4.2, whose connection the handlers protect.

It exports what the manual page has: `all`, with xprtsec=tls:mtls, and `staff`, with mtls only. Each is a file system of
its own: xprtsec= is not enforced within another export's, such as the root's (fsid=0).
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.vm.guest import manual, netns

EXPORTS = Path("/srv/nfs")
_NFSD = Path("/proc/fs/nfsd")
_PIPES = Path("/run/rpc_pipefs")


@contextmanager
def serving() -> Iterator[None]:
    """The server, with the exports at /srv/nfs/NAME here and /NAME for clients."""
    exports = manual.block("NFS", f"{EXPORTS} ")
    for line in exports.splitlines():
        directory = line.split()[0]
        Path(directory).mkdir(parents=True, exist_ok=True)
        netns.execute("mount", "-t", "tmpfs", "-o", "mode=0777", "tmpfs", directory)
    Path("/etc/exports").write_text(exports)
    netns.execute("modprobe", "nfsd")
    # Which instance of the file system is mounted depends on the namespace of who mounts it.
    netns.run("server", "mount", "-t", "nfsd", "nfsd", str(_NFSD))
    _PIPES.mkdir(exist_ok=True)
    netns.run("server", "mount", "-t", "rpc_pipefs", "rpc_pipefs", str(_PIPES))
    # It knows that no client has anything to reclaim: there is no period of grace.
    netns.run("server", "nfsdcld", "-p", str(_PIPES))
    netns.run("server", "exportfs", "-r")
    netns.run("server", "rpc.mountd", "--no-nfs-version", "3")
    netns.run("server", "rpc.nfsd", "--no-nfs-version", "3", "2")
    try:
        yield
    finally:
        netns.run("server", "rpc.nfsd", "0")
        netns.run("server", "exportfs", "-ua")
        for daemon in ("rpc.mountd", "nfsdcld"):
            netns.execute("pkill", "-x", daemon, check=False)
        for mount in (_PIPES, _NFSD):
            netns.execute("umount", "--lazy", str(mount))
        netns.execute("umount", "--recursive", str(EXPORTS))


@contextmanager
def mounted(export: str, xprtsec: str, target: Path) -> Iterator[Path]:
    """An export, mounted with xprtsec=`xprtsec` ("none", "tls", "mtls", and more options behind it); AssertionError if
    it fails."""
    done = _mount(export, xprtsec, target)
    assert done.returncode == 0, done
    try:
        yield target
    finally:
        netns.run("client", "umount", str(target))


def mount_error(export: str, xprtsec: str, target: Path, host: str = netns.NAMES["server"]) -> tuple[int, str]:
    """What mount(8) exits with and says; AssertionError if it succeeds."""
    done = _mount(export, xprtsec, target, host)
    if done.returncode == 0:
        netns.run("client", "umount", str(target))
    assert done.returncode != 0, "it is mounted"
    return done.returncode, done.stderr.strip()


def _mount(
    export: str, xprtsec: str, target: Path, host: str = netns.NAMES["server"]
) -> subprocess.CompletedProcess[str]:
    target.mkdir(exist_ok=True)
    # retry=0, soft: one try, and errors instead of waiting for ever.
    options = f"vers=4.2,xprtsec={xprtsec},soft,retry=0,timeo=100"
    return netns.run("client", "mount", "-t", "nfs", "-o", options, f"{host}:/{export}", str(target), check=False)
