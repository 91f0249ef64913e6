"""The commands and files of quic-tlshd-kernel(7), to be tried as they stand there, but for names and paths."""

from __future__ import annotations

import re
from collections.abc import Mapping

from tests.peers.daemon import REPOSITORY
from tests.vm.guest import netns

PAGE = REPOSITORY / "man" / "quic-tlshd-kernel.7"
_BLOCK = re.compile(r"^\.Bd -literal.*\n((?:.*\n)*?)\.Ed$", re.MULTILINE)
_PROMPT = re.compile(r"^(client|server)# ", re.MULTILINE)


def section(heading: str) -> list[str]:
    """The literal blocks of a section (.Sh), in order."""
    page = PAGE.read_text().replace("\\e\n", "\\\n")
    text = page.partition(f".Sh {heading}\n")[2].partition("\n.Sh ")[0]
    return _BLOCK.findall(text)


def block(heading: str, start: str) -> str:
    """The one block of a section that starts so."""
    (found,) = (each for each in section(heading) if each.startswith(start))
    return found


def settings(heading: str, name: str) -> dict[str, str]:
    """What a section of the configuration has there."""
    _, *lines = block(heading, f"[{name}]").splitlines()
    return dict(line.split("=", 1) for line in lines)


def run(commands: str, changes: Mapping[str, str]) -> str:
    """Run a block's commands on the side that their prompts name, in one shell; all that they print. changes: what is
    called otherwise here, and shell variables that they use."""
    match = _PROMPT.match(commands)
    assert match is not None, commands
    script = _PROMPT.sub("", commands)
    for ours, theirs in changes.items():
        script = script.replace(ours, theirs)
    done = netns.run(match[1], "sh", "-euc", script)
    return done.stdout + done.stderr
