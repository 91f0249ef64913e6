"""Handshakes through the whole daemon, client and server upcalls both: ``python -m tests.bench.bench_daemon``.

Both sides of every pair are upcalls of one daemon, over user-space endpoints; this process carries the CRYPTO data
from one to the other. CPU is that of the daemon's processes, by their /proc/PID/stat. Every handshake is checked.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from pathlib import Path

from netlink.upcall import UpcallConnection
from tests.peers import pki, quic_stack
from tests.peers.daemon import Daemon, entry, running

PAIRS = 600
TICK = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


async def measure(daemon: Daemon, at_once: int) -> None:
    async with await UpcallConnection.open(daemon.socket) as connection:
        gate = asyncio.Semaphore(at_once)
        spans: list[float] = []

        async def pair() -> None:
            async with gate:
                began = time.perf_counter()
                result = await quic_stack.handshake(connection, connection)
                spans.append(time.perf_counter() - began)
                assert result.client.status == result.server.status == 0, result

        for _ in range(20):
            await pair()
        spans.clear()
        pids = [daemon.pid, *daemon.children]
        before = [cpu_seconds(pid) for pid in pids]
        began = time.perf_counter()
        await asyncio.gather(*[pair() for _ in range(PAIRS)])
        elapsed = time.perf_counter() - began
        monitor, *workers = (
            (cpu_seconds(pid) - spent) / PAIRS / 2 * 1e6 for pid, spent in zip(pids, before, strict=True)
        )
    spans.sort()
    print(
        f"{len(workers)} workers, {at_once:2} at once: {PAIRS / elapsed:5.0f} pairs/s, "
        f"median {spans[PAIRS // 2] * 1e3:5.1f} ms, 99 % {spans[PAIRS * 99 // 100] * 1e3:5.1f} ms, "
        f"CPU per upcall {monitor:4.0f} µs monitor + {sum(workers):4.0f} µs worker"
    )


def main() -> None:
    root = pki.Authority("bench root")
    issued = root.intermediate("bench issuer").issue(("localhost",))
    with tempfile.TemporaryDirectory() as directory:
        store = Path(directory) / "root.pem"
        root.write(store)
        for count in ("1", "2"):
            with running(
                {"h3": entry(issued, alpn="h3")}, client={"x509.truststore": str(store)}, worker={"count": count}
            ) as daemon:
                for at_once in (1, 8, 32):
                    asyncio.run(measure(daemon, at_once))


if __name__ == "__main__":
    main()
