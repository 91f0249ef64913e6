"""Handshakes that the kernel asks for, by quic-tlshd and by tlshd in the same boot: ``make bench-vm``.

Inside the guest it is ``python3 -m tests.bench.bench_kernel``. Both ends of every connection over loopback are upcalls
to the one daemon that runs; the daemons take turns. A pair counts if both its DONEs have status 0. Its latency is from
the first request to the last DONE. CPU is that of all the daemon's processes, those that have ended too: its cgroup's.
Of several rounds the fastest is shown, for others may be using the machine, but the failures of all.
"""

from __future__ import annotations

import argparse
import errno
import os
import platform
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from statistics import median
from threading import Thread

from tests.peers.pki import Authority
from tests.vm.guest import keyring, netns
from tests.vm.guest.handlers import HANDLERS, QuicTlshd, Tlshd
from tests.vm.guest.hsgen import Kind, Request, Result, run_pair
from tests.vm.guest.scenario import exchange

AT_ONCE = (1, 4, 8, 64)
SIDE = "server"  # the network namespace that all of it is in
CGROUP = Path("/sys/fs/cgroup/handler")
SYSTEM_STORE = Path("/etc/ssl/certs/ca-certificates.crt")
TIMEOUT, WAIT = 20_000, 25_000  # milliseconds: what the daemon is told, and when the kernel gives up
HEADER = ("", "", "at once", *("pairs/s", "median", "99 %", "CPU", "failed") * 2, "")


@dataclass(frozen=True)
class Case:
    """What is asked for. truststore: None for the system's. serial: of the PSK."""

    name: str
    store: str
    client: Kind
    truststore: Path | None
    serial: int = 0

    def requests(self, client: socket.socket, server: socket.socket) -> tuple[Request, Request]:
        name = netns.NAMES["server"]
        if self.client is Kind.CLIENT_PSK:
            ours = Request(client.fileno(), self.client, name, TIMEOUT, WAIT, peerids=(self.serial,))
            return ours, Request(server.fileno(), Kind.SERVER_PSK, "", TIMEOUT, WAIT, peerids=(0,))
        ours = Request(client.fileno(), self.client, name, TIMEOUT, WAIT)
        return ours, Request(server.fileno(), Kind.SERVER_X509, "", TIMEOUT, WAIT)


@dataclass(frozen=True)
class Tally:
    """What one daemon did in one case with so many at once; seconds. asking: our own CPU."""

    spans: list[float]
    failures: Counter[str]
    elapsed: float
    cpu: float
    asking: float

    @property
    def rate(self) -> float:
        return len(self.spans) / self.elapsed

    @property
    def pairs(self) -> int:
        return len(self.spans) + self.failures.total()


@dataclass
class Record:
    """All rounds of that."""

    tallies: list[Tally] = field(default_factory=list)

    @property
    def best(self) -> Tally:
        return max(self.tallies, key=lambda tally: tally.rate)

    @property
    def failures(self) -> Counter[str]:
        return sum((tally.failures for tally in self.tallies), Counter())

    def cells(self) -> tuple[str, ...]:
        best = self.best
        spans = sorted(best.spans) or [float("nan")]
        times = (spans[len(spans) // 2], spans[len(spans) * 99 // 100], best.cpu / best.pairs / 2)
        return f"{best.rate:.1f}", *(f"{seconds * 1e3:.1f}" for seconds in times), str(self.failures.total())


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench_kernel", description=__doc__.partition("\n")[0])
    parser.add_argument("--pairs", type=int, default=128, help="of each case, number at once and round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", action="append", choices=sorted(HANDLERS), help="one daemon alone")
    arguments = parser.parse_args()
    names = arguments.only or [Tlshd.name, QuicTlshd.name]
    records: dict[tuple[str, Case, int], Record] = defaultdict(Record)
    with tempfile.TemporaryDirectory() as name, surroundings():
        cases = prepare(Path(name))
        print(environment(), flush=True)
        for _ in range(arguments.rounds):
            for case in cases:
                for handler in names:
                    with answering(handler, Path(name), case):
                        for at_once in AT_ONCE:
                            records[handler, case, at_once].tallies.append(measure(case, at_once, arguments.pairs))
                print(".", end="", file=sys.stderr, flush=True)
    report(names, cases, records)


@contextmanager
def surroundings() -> Iterator[None]:
    """A network namespace, with this thread in it, and a cgroup for the daemon."""
    netns.execute("ip", "netns", "add", SIDE)
    netns.run(SIDE, "ip", "link", "set", "lo", "up")
    netns.execute("mount", "-t", "cgroup2", "cgroup", "/sys/fs/cgroup")
    CGROUP.mkdir()
    try:
        with netns.entered(SIDE):
            yield
    finally:
        CGROUP.rmdir()
        netns.execute("umount", "/sys/fs/cgroup")
        netns.execute("ip", "netns", "delete", SIDE)


def prepare(directory: Path) -> list[Case]:
    """Certificates, a PSK, and the root among those of the system."""
    root = Authority("bench root")
    root.write(directory / "root.pem")
    issuer = root.intermediate("bench issuer")
    for side, name in netns.NAMES.items():
        issuer.issue((name,), usage=side).write(directory, side)
    with SYSTEM_STORE.open("ab") as store:
        store.write((directory / "root.pem").read_bytes())
    subprocess.run(("modprobe", "nvme-keyring"), stderr=subprocess.DEVNULL, check=False)  # it may be built in
    ring = keyring.find(keyring.NVME)
    serial = keyring.add("psk", keyring.nvme_identity("client", "bench"), bytes(range(32)), ring)
    one = directory / "root.pem"
    return [
        Case("server certificate", "one root", Kind.CLIENT_ANON, one),
        Case("mutual", "one root", Kind.CLIENT_X509, one),
        Case("server certificate", "system", Kind.CLIENT_ANON, None),
        Case("mutual", "system", Kind.CLIENT_X509, None),
        Case("PSK", "", Kind.CLIENT_PSK, one, serial),
    ]


@contextmanager
def answering(name: str, directory: Path, case: Case) -> Iterator[None]:
    """The daemon of that name runs, in the cgroup, with its own number of workers."""
    config = {
        f"authenticate.{side}": {
            "x509.truststore": str(case.truststore or SYSTEM_STORE),
            "x509.certificate": str(directory / f"{side}.pem"),
            "x509.private_key": str(directory / f"{side}.key"),
        }
        for side in netns.NAMES
    }
    if case.truststore is None:  # a server has to name it: ours asks no client for a certificate otherwise
        del config["authenticate.client"]["x509.truststore"]
    with tempfile.TemporaryDirectory(prefix="handler-") as own:
        handler = HANDLERS[name](SIDE, Path(own), {**config, "worker": {}})
        try:
            move_to(CGROUP)
            try:
                handler.start()
            finally:
                move_to(CGROUP.parent)
            yield
        except AssertionError:
            print(*handler.log()[-20:], sep="\n", file=sys.stderr)
            raise
        finally:
            handler.stop()


def move_to(cgroup: Path) -> None:
    (cgroup / "cgroup.procs").write_text(str(os.getpid()))


def measure(case: Case, at_once: int, pairs: int) -> Tally:
    """Of `pairs` pairs, after some that are not counted; the first of these is used, too."""
    with ExitStack() as stack:
        ends = [stack.enter_context(connection()) for _ in range(at_once + pairs)]
        requests = [case.requests(*each) for each in ends]
        (results,) = ask(requests[:1], 1)
        assert all(result.succeeded for result in results), results
        assert (results[1].peerid != 0) == (case.client is not Kind.CLIENT_ANON), results
        exchange(*ends[0])
        ask(requests[1:at_once], at_once)
        cpu, asking, began = cpu_seconds(), time.process_time(), time.perf_counter()
        counted = ask(requests[at_once:], at_once)
        elapsed, asking = time.perf_counter() - began, time.process_time() - asking
        cpu = cpu_seconds() - cpu
    good = [both for both in counted if all(result.succeeded for result in both)]
    return Tally(
        [max(result.seconds for result in both) for both in good],
        Counter(", ".join(map(describe, both)) for both in counted if both not in good),
        elapsed,
        cpu,
        asking,
    )


def ask(requests: Sequence[tuple[Request, Request]], at_once: int) -> list[tuple[Result, Result]]:
    """All of them, so many at once, each by a thread that waits in the kernel."""
    waiting = iter(requests)
    results: list[tuple[Result, Result]] = []

    def run() -> None:
        mine = [run_pair(*both) for both in waiting]
        results.extend(mine)

    threads = [Thread(target=run) for _ in range(at_once)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


@contextmanager
def connection() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Both ends of one over loopback: the client's and the server's."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname(), 10)
        server, _ = listener.accept()
    with client, server:
        yield client, server


def cpu_seconds() -> float:
    """Of the cgroup, once those processes are gone that end behind their DONE."""
    time.sleep(0.1)
    fields = dict(line.split() for line in (CGROUP / "cpu.stat").read_text().splitlines())
    return int(fields["usage_usec"]) / 1e6


def describe(result: Result) -> str:
    if result.submit_rc:
        return f"refused with {errno.errorcode[-result.submit_rc]}"
    if result.cancelled:
        return "cancelled"
    return errno.errorcode[-result.status] if result.status else "done"


def environment() -> str:
    tlshd = subprocess.run(("tlshd", "--version"), capture_output=True, text=True, check=False)
    processor = Path("/proc/cpuinfo").read_text().partition("model name\t: ")[2].partition("\n")[0]
    return (
        f"Linux {platform.release()}, {os.cpu_count()} CPUs ({processor}), Python {platform.python_version()}, "
        f"cryptography {version('cryptography')}, {(tlshd.stdout + tlshd.stderr).strip()}, "
        f"{SYSTEM_STORE.read_text().count('BEGIN')} CAs in the system's store"
    )


def report(names: Sequence[str], cases: Sequence[Case], records: Mapping[tuple[str, Case, int], Record]) -> None:
    """The table, and what failed."""
    rows: list[tuple[str, ...]] = [HEADER]
    for case in cases:
        for at_once in AT_ONCE:
            both = [records[name, case, at_once] for name in names]
            faster = f"{both[-1].best.rate / both[0].best.rate:.2f}x" if len(both) > 1 else ""
            cells = [cell for record in both for cell in record.cells()]
            rows.append((case.name, case.store, str(at_once), *cells, faster))
    widths = [max(len(row[column]) for row in rows if column < len(row)) for column in range(len(rows[-1]))]
    print(f"\n{' ' * (widths[0] + widths[1] + 14)}{'  |  '.join(names)}")
    for row in rows:
        print("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=False)))
    for case in cases:
        best = [max(records[name, case, at_once].best.rate for at_once in AT_ONCE) for name in names]
        print(
            f"{case.name} {case.store}: best {' against '.join(f'{rate:.1f}' for rate in reversed(best))} pairs/s",
            end="",
        )
        print(f", {best[-1] / best[0]:.2f}x" if len(best) > 1 else "")
    for (name, case, at_once), record in records.items():
        for what, count in record.failures.items():
            print(f"{name}, {case.name} {case.store}, {at_once} at once: {count} failed: {what}")
    asked = median(record.best.asking / record.best.pairs for record in records.values())
    print(f"\nMilliseconds; CPU is per upcall. Asking took {asked * 1e3:.2f} ms of CPU a pair, not counted above.")


if __name__ == "__main__":
    if shutil.which("tlshd") is None:
        sys.exit("this is run in a guest: make bench-vm")
    main()
