"""Calls in threads of their own."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from pathlib import Path

import pytest

from quic_tlshd.monitor.threads import in_thread


async def test_it_gives_and_raises_what_the_call_does() -> None:
    assert await in_thread(int, "7", base=8) == 7
    with pytest.raises(ValueError, match="invalid literal"):
        await in_thread(int, "x")


async def test_others_go_on_meanwhile() -> None:
    waiting = asyncio.create_task(in_thread(time.sleep, 0.3))
    beats = 0
    while not waiting.done():
        await asyncio.sleep(0.01)
        beats += 1
    assert beats > 5


async def test_who_waits_may_give_up() -> None:
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(in_thread(time.sleep, 0.3), 0.01)
    await asyncio.sleep(0.4)  # its end is no fault then


def test_a_call_that_never_ends_keeps_no_process() -> None:
    code = (
        "import asyncio, time\n"
        "from quic_tlshd.monitor.threads import in_thread\n"
        "async def main():\n"
        "    task = asyncio.create_task(in_thread(time.sleep, 1000))\n"
        "    await asyncio.sleep(0.05)\n"
        "asyncio.run(main())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], timeout=20, check=False, cwd=Path(__file__).parents[2])
    assert done.returncode == 0
