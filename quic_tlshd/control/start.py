"""What the daemon would find out only when it starts: about the upcall socket, its group and the workers' user."""

from __future__ import annotations

import grp
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from quic_tlshd.monitor.privileges import UserError, unprivileged
from quic_tlshd.policy.config import Config
from quic_tlshd.policy.ini import BUILT_IN, Source, Warned, empty_section, load_sections

_LONGEST_PATH = 107  # bytes; sun_path has 108 with a NUL at its end (unix(7))


def refusals(config: Config) -> tuple[Warned, ...]:
    """Why the daemon would not start with this if the same user started it.

    severe: what the file says is at fault, and not only where the socket is by default, which also is up to the
    environment that the daemon is started in.
    """
    sections = {} if config.path is None else {each.name: each for each in load_sections(config.path)}

    def source(section: str, key: str) -> Source:
        found = sections.get(section, empty_section(section))
        return found.source_of(key) if found.text(key) is not None else BUILT_IN

    def judged() -> Iterator[tuple[Source, str | None]]:
        yield source("upcall", "socket"), _about_socket(config.upcall.socket)
        yield source("upcall", "socket_group"), _about_group(config.upcall.socket_group)
        yield source("worker", "user"), _about_user(config.worker.user)

    return tuple(Warned(where, reason, severe=where is not BUILT_IN) for where, reason in judged() if reason)


def _about_socket(path: Path) -> str | None:
    if len(os.fsencode(path)) > _LONGEST_PATH:
        return f"the socket's path is longer than {_LONGEST_PATH} bytes: {path}"
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            return f"{path} is there and is not a socket"
    except FileNotFoundError:
        pass
    except OSError as error:
        return f"{path}: {error.strerror}"
    folder = next(each for each in path.parents if os.path.lexists(each))
    if not folder.is_dir():
        return f"{path} can't be made: {folder} is not a directory"
    if not os.access(folder, os.W_OK | os.X_OK, effective_ids=True):
        return f"{path} can't be made: {folder} can't be written to by this user"
    return None


def _about_group(name: str | None) -> str | None:
    try:
        if name is not None:
            grp.getgrnam(name)
    except KeyError:
        return f"there is no group {name} for the upcall socket"
    return None


def _about_user(name: str | None) -> str | None:
    try:
        unprivileged([], name)
    except UserError as error:
        return str(error)
    return None
