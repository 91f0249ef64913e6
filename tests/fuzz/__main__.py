"""`python -m tests.fuzz [--inputs N] [--seed S] [TARGET...]`; the exit status is 1 if there is a finding."""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time
from pathlib import Path

FINDINGS = Path(__file__).parents[2] / ".cache" / "fuzz"
TARGETS = ("codec", "server", "client", "records")
SECONDS = 1  # of CPU time that an input may take
HANG = 60  # seconds that it may take on a busy machine
GROWTH = 64  # MiB of memory, above what the process has before the first input


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Fuzz the engine and its record layer")
    parser.add_argument("--inputs", type=int, default=1_000_000, metavar="N", help="for each target (default: 1000000)")
    parser.add_argument("--seed", type=int, default=1, metavar="S", help="of the changes")
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)  # the process of one target
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(TARGETS)} (default: all)")
    arguments = parser.parse_args()
    if unknown := set(arguments.targets) - set(TARGETS):
        parser.error(f"there is no target {', '.join(unknown)}")
    if arguments.alone:
        fuzz(arguments.targets[0], arguments.inputs, arguments.seed)
    options = ["--alone", "--inputs", str(arguments.inputs), "--seed", str(arguments.seed)]
    status = 0
    for target in arguments.targets or TARGETS:
        began = time.monotonic()
        done = subprocess.run([sys.executable, "-m", "tests.fuzz", *options, target], capture_output=True, text=True)
        seconds = time.monotonic() - began
        if done.returncode:
            status = 1
            print(done.stdout[-4000:], done.stderr[-4000:], sep="")
        verdict = f"a finding (exit {done.returncode})" if done.returncode else "no finding"
        print(f"{target:8} {arguments.inputs} inputs in {seconds:.0f} s: {verdict}", flush=True)
    return status


def fuzz(name: str, inputs: int, seed: int) -> None:
    """Never returns: libFuzzer ends the process, with 0 if there is no finding."""
    try:
        import atheris
    except ImportError:
        sys.exit("atheris is not installed: pip install atheris")
    with atheris.instrument_imports(include=["quic_tlshd.tls"]):
        from tests.fuzz.targets import TARGETS as TARGETS_BY_NAME
    target = TARGETS_BY_NAME[name]
    corpus, findings = FINDINGS / "corpus" / name, FINDINGS / name
    for folder in (corpus, findings):
        folder.mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(target.seeds()):
        (corpus / f"seed-{number:03}").write_bytes(data)
        target.run(data)
    now = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    options = [
        f"-runs={inputs}",
        f"-seed={seed}",
        f"-timeout={HANG}",
        f"-rss_limit_mb={now + GROWTH}",
        f"-artifact_prefix={findings}/",
        "-max_len=8192",
        "-len_control=0",
    ]

    def run(data: bytes) -> None:
        began = time.process_time()
        target.run(data)
        assert time.process_time() - began < SECONDS, "an input took too long"

    atheris.Setup([sys.argv[0], *options, str(corpus)], run)
    atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())
