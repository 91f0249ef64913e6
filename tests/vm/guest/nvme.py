"""An NVMe/TCP target in the namespace `server` that demands TLS, and connections to it from `client`.

One connect with one I/O queue makes two connections and so four upcalls.
"""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.vm.guest import keyring, netns

HOST = "nqn.2014-08.org.nvmexpress:uuid:11111111-2222-3333-4444-555555555555"
HOST_ID = "11111111-2222-3333-4444-555555555555"
SUBSYSTEM = "nqn.2026-11.test:scenarios"
PORT = 4420
SIZE = 64 << 20  # bytes of the namespace
_NVMET = Path("/sys/kernel/config/nvmet")
_LINK = _NVMET / "ports" / "1" / "subsystems" / SUBSYSTEM


@contextmanager
def serving(directory: Path) -> Iterator[None]:
    """The target, with one namespace in a file in `directory`."""
    for module in ("nvmet-tcp", "nvme-tcp", "loop"):
        netns.execute("modprobe", module)
    backing = directory / "namespace"
    with backing.open("wb") as file:
        file.truncate(SIZE)
    device = netns.execute("losetup", "--show", "-f", str(backing)).stdout.strip()
    subsystem, port = _NVMET / "subsystems" / SUBSYSTEM, _NVMET / "ports" / "1"
    namespace = subsystem / "namespaces" / "1"
    namespace.parent.parent.mkdir()
    namespace.mkdir()
    (subsystem / "attr_allow_any_host").write_text("1")
    (namespace / "device_path").write_text(device)
    (namespace / "enable").write_text("1")
    port.mkdir()
    values = {"adrfam": "ipv4", "traddr": netns.ADDRESSES["server"], "trsvcid": str(PORT), "trtype": "tcp"}
    for name, value in {**values, "treq": "required", "tsas": "tls1.3"}.items():
        (port / f"addr_{name}").write_text(value)
    _serve()
    try:
        yield
    finally:
        _LINK.unlink()
        port.rmdir()
        (namespace / "enable").write_text("0")
        namespace.rmdir()
        subsystem.rmdir()
        netns.execute("losetup", "-d", device)


def _serve() -> None:
    """The listening socket is made now, in the namespace of who does it."""
    with netns.entered("server"):
        _LINK.symlink_to(_NVMET / "subsystems" / SUBSYSTEM)


@contextmanager
def out_of_service() -> Iterator[None]:
    """Meanwhile the port can be changed."""
    _LINK.unlink()
    try:
        yield
    finally:
        _serve()


@contextmanager
def generated_key(hmac: int) -> Iterator[None]:
    """A retained key for HOST and SUBSYSTEM (hmac: 1 SHA-256, 2 SHA-384) in the keyring .nvme, made by nvme(1)."""
    names = (f"--hostnqn={HOST}", f"--subsysnqn={SUBSYSTEM}")
    done = netns.execute("nvme", "gen-tls-key", "--identity=1", f"--hmac={hmac}", "--insert", *names)
    match = re.search(r"[Ii]nserted TLS key ([0-9a-f]+)", done.stdout + done.stderr)
    assert match is not None, done
    try:
        yield
    finally:
        keyring.keyctl("unlink", f"0x{match[1]}", str(keyring.find(keyring.NVME)))


@contextmanager
def connected() -> Iterator[Path]:
    """A controller of the target; gives the namespace's block device. AssertionError if the connection fails."""
    done = _connect()
    assert done.returncode == 0, done
    try:
        yield device()
    finally:
        disconnect()


def connect_error(ring: int, key: int) -> tuple[int, str]:
    """What nvme(1) exits with and says when the host has that key, of that keyring; AssertionError if it succeeds."""
    done = _connect(f"--keyring={ring:#x}", f"--tls-key={key:#x}")
    if done.returncode == 0:
        disconnect()
    assert done.returncode != 0, "it is connected"
    return done.returncode, done.stderr.strip()


def _connect(*options: str) -> subprocess.CompletedProcess[str]:
    where = ("-t", "tcp", "-a", netns.ADDRESSES["server"], "-s", str(PORT), "-n", SUBSYSTEM)
    command = ("nvme", "connect", *where, "-q", HOST, "-I", HOST_ID, "--tls", "--nr-io-queues=1", *options)
    return netns.run("client", *command, check=False)


def disconnect() -> None:
    netns.execute("nvme", "disconnect", "-n", SUBSYSTEM)


def device() -> Path:
    """The block device of the namespace, when it is there."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        found = sorted(Path("/dev").glob("nvme*n1"))
        if found:
            return found[0]
        time.sleep(0.05)
    raise AssertionError("the controller has no namespace")
