"""What a worker is started without, by the system's setpriv, and what the monitor has before others."""

from __future__ import annotations

import os
import pwd
import subprocess
import sys

import pytest

from quic_tlshd.monitor.privileges import UserError, unprivileged
from tests.peers.daemon import REPOSITORY

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


def status(command: list[str]) -> dict[str, str]:
    """/proc/self/status of what the command starts."""
    done = subprocess.run([*command, "/proc/self/status"], capture_output=True, text=True, check=True, timeout=20)
    return dict(line.split(":\t", 1) for line in done.stdout.splitlines())


def test_no_capability_and_no_way_to_one() -> None:
    found = status(unprivileged(["/bin/cat"], pwd.getpwuid(os.geteuid()).pw_name))
    assert found["NoNewPrivs"] == "1"
    assert {int(found[kind], 16) for kind in ("CapInh", "CapPrm", "CapEff", "CapAmb")} == {0}


@as_root
def test_root_becomes_the_user_that_is_named() -> None:
    nobody = pwd.getpwnam("nobody")
    found = status(unprivileged(["/bin/cat"], "nobody"))
    assert found["Uid"].split() == [str(nobody.pw_uid)] * 4
    assert found["Gid"].split() == [str(nobody.pw_gid)] * 4
    assert found["Groups"].split() == []
    assert int(found["CapBnd"], 16) == 0


@as_root
def test_root_never_stays_root_by_default() -> None:
    assert status(unprivileged(["/bin/cat"], None))["Uid"].split()[0] != "0"


def test_a_user_that_is_not_there() -> None:
    with pytest.raises(UserError):
        unprivileged(["/bin/cat"], "no-such-user-anywhere")


@as_root
def test_what_runs_first_starts_others_that_do_not() -> None:
    """Neither a process nor a thread."""
    assert scheduling([]) == [os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.SCHED_OTHER, os.SCHED_OTHER]


def test_who_may_not_run_first_runs_as_before() -> None:
    assert scheduling(unprivileged([], pwd.getpwuid(os.geteuid()).pw_name)) == [os.SCHED_OTHER] * 3


RUN_FIRST = """
import os, sys, threading
from quic_tlshd.monitor.privileges import run_first
run_first()
def tell():
    print(os.sched_getscheduler(0), flush=True)
tell()
thread = threading.Thread(target=tell)
thread.start()
thread.join()
if os.fork() == 0:
    tell()
else:
    os.wait()
"""


def scheduling(wrapper: list[str]) -> list[int]:
    """The policies of a process that runs first, of a thread and of a process that it starts."""
    command = [*wrapper, sys.executable, "-c", RUN_FIRST]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20, cwd=REPOSITORY)
    return [int(line) for line in done.stdout.split()]
