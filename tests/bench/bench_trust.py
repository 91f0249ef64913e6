"""What verifying a chain costs, remembered and not: run it with `python -m tests.bench.bench_trust`."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime

from quic_tlshd.policy.anchors import load_system
from quic_tlshd.policy.pem import der
from quic_tlshd.policy.registry import TrustAnchors
from quic_tlshd.policy.trust import TrustStore
from quic_tlshd.tls.alert import PeerError
from tests.peers import pki


def microseconds(call: Callable[[], object], rounds: int) -> float:
    """CPU time of one call, the best of five runs of `rounds` calls."""
    best = float("inf")
    for _ in range(5):
        start = time.process_time()
        for _ in range(rounds):
            call()
        best = min(best, time.process_time() - start)
    return best / rounds * 1e6


def main() -> None:
    """Print a table of µs CPU a call."""
    now = datetime.now(UTC)
    root = pki.Authority("bench root")
    system = tuple(map(der, load_system(now).certificates))
    chain = root.issue(intermediate=True).chain
    measure("1 anchor", TrustAnchors("bench", (root.der,)), chain, now)
    measure(f"{len(system) + 1} anchors", TrustAnchors("bench", (*system, root.der)), chain, now)


def measure(label: str, anchors: TrustAnchors, chain: tuple[bytes, ...], now: datetime) -> None:
    """Print one row."""
    # A fresh store verifies anew; they are built before the clock starts.
    fresh = iter([TrustStore(anchors) for _ in range(500)])
    kept = TrustStore(anchors)

    def hit() -> object:
        # New objects, as a decoder makes them: their hashes are not known yet.
        return kept.verify_server(tuple(bytes(bytearray(member)) for member in chain), "a.example", now)

    def refused() -> None:
        try:
            kept.verify_server(chain, "b.example", now)
        except PeerError:
            return

    print(
        f"{label:12} store built {microseconds(lambda: TrustStore(anchors), 20):8.1f}"
        f"  verified {microseconds(lambda: next(fresh).verify_server(chain, 'a.example', now), 100):8.1f}"
        f"  remembered {microseconds(hit, 2000):6.1f}  refused {microseconds(refused, 100):8.1f}"
    )


if __name__ == "__main__":
    main()
