"""``quic-tlshd``: from arguments to a configuration to the monitor."""

from __future__ import annotations

import argparse
import asyncio
import errno
import gc
import logging
import os
import signal
import sys
from pathlib import Path
from typing import NoReturn

from quic_tlshd import __version__
from quic_tlshd import log as logs
from quic_tlshd.monitor.monitor import Monitor
from quic_tlshd.monitor.privileges import UserError
from quic_tlshd.monitor.workers import StartError
from quic_tlshd.policy import config as configuration
from quic_tlshd.policy.config import Config, ConfigError
from quic_tlshd.uapi.prctl import protect_memory

log = logging.getLogger("quic_tlshd")


def main() -> None:
    parser = argparse.ArgumentParser(prog="quic-tlshd", description="TLS 1.3 handshakes for QUIC and kTLS transports")
    parser.add_argument("-c", "--config", type=Path, metavar="FILE", help="the configuration file")
    parser.add_argument(
        "-s", "--stderr", action="store_true", help="log to standard error (always the case; accepted as tlshd does)"
    )
    parser.add_argument("-v", "--version", action="version", version=f"%(prog)s {__version__}")
    arguments = parser.parse_args()
    logs.set_up(logging.INFO)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until there is something to reload
    try:
        config = configuration.load(arguments.config)
    except ConfigError as error:
        _refuse(error)
    except OSError as error:
        log.error("can't start: %s", _in_words(error))
        sys.exit(1)
    try:
        level = _level(config)
        logs.set_up(level)
        protect_memory()
        asyncio.run(_serve(config, arguments.config, level))
    except ConfigError as error:
        _refuse(error)
    except OSError as error:
        log.error("can't start: %s", _in_words(error, config.upcall.socket))
        sys.exit(1)
    except (StartError, UserError) as error:
        log.error("can't start: %s", error)
        sys.exit(1)


async def _serve(config: Config, path: Path | None, level: int) -> None:
    monitor = Monitor(config, path, level)
    gc.freeze()  # what is loaded now stays: later collections need not look at it
    await monitor.run()


def _refuse(error: ConfigError) -> NoReturn:
    for line in (error, *error.others):
        log.error("%s", line)
    sys.exit(1)


def _in_words(error: OSError, upcalls: Path | None = None) -> str:
    """Which file and why, and what to set if it is about `upcalls`, where the upcall socket shall be."""
    # socket.bind gives no errno to a path that is too long, and says so only in its text.
    why = error.strerror or str(error.__cause__ or error)
    if error.filename is None:
        return why
    place = Path(os.fsdecode(error.filename))
    mine = upcalls is not None and (place == upcalls or place in upcalls.parents or place.parent == upcalls.parent)
    remedy = " (set [upcall] socket, or XDG_RUNTIME_DIR)" if mine and error.errno != errno.EADDRINUSE else ""
    return f"{place}: {why}{remedy}"


def _level(config: Config) -> int:
    """tlshd's loglevel: 0 for what an administrator wants to know, more for debugging."""
    return logging.DEBUG if config.debug.loglevel > 0 else logging.INFO


if __name__ == "__main__":
    main()
