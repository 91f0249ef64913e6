"""`python -m tests.vm build | run [--uml] [--timeout SECONDS] [-- COMMAND...] | test [PYTEST ARGUMENTS...]`."""

from __future__ import annotations

import argparse
import sys

from tests.vm import image, qemu, uml

PYTEST = ("python3", "-m", "pytest", "--no-skip")
SCENARIOS = "tests/vm/guest"


def main() -> int:
    """The exit status: the command's, or one of qemu.py's."""
    parser = argparse.ArgumentParser(prog="python -m tests.vm", description="A guest with a kernel that makes upcalls")
    actions = parser.add_subparsers(dest="action", required=True)
    actions.add_parser("build", help="build the guest if it is not in the cache")
    run = actions.add_parser("run", help="run a command as root in a guest, in the checkout")
    run.add_argument("--timeout", type=float, default=600, metavar="SECONDS", help="for boot and command")
    run.add_argument("--uml", action="store_true", help="its kernel as a program, User-Mode Linux, and not under qemu")
    run.add_argument("command", nargs="+", metavar="COMMAND")
    test = actions.add_parser("test", help="run the scenarios, all in one boot; more arguments are pytest's")
    test.add_argument("--timeout", type=float, default=1200, metavar="SECONDS", help="for boot and scenarios")
    arguments, more = parser.parse_known_args()
    if more and arguments.action != "test":
        parser.error(f"unknown arguments: {' '.join(more)} (a command with options goes after --)")
    try:
        guest = image.ready()
        if arguments.action == "build":
            return 0
        if arguments.action == "run":
            return qemu.run(guest, arguments.command, arguments.timeout, (uml if arguments.uml else qemu).machine)
        named = any("::" in argument or argument.endswith(".py") for argument in more)
        return qemu.run(guest, [*PYTEST, *more, *(() if named else (SCENARIOS,))], arguments.timeout)
    except image.BuildError as error:
        print(error, file=sys.stderr)
        return qemu.NOT_RUN
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
