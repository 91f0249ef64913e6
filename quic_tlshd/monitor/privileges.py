"""What a worker is started without, and what the monitor has before others."""

from __future__ import annotations

import logging
import os
import pwd

log = logging.getLogger(__name__)


class UserError(Exception):
    """The workers' user can't be used."""


def unprivileged(command: list[str], user: str | None) -> list[str]:
    """The command by way of setpriv(1): no_new_privs, no capability, and as `user` if root starts it.

    `user` None is quic-tlshd if there is such a user, else nobody; who isn't root can only start its own.
    """
    wrapper = ["setpriv", "--no-new-privs", "--inh-caps=-all", "--ambient-caps=-all"]
    if os.geteuid() == 0:
        account = _account(user)
        wrapper += ("--bounding-set=-all", f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups")
    elif user is not None and _account(user).pw_uid != os.geteuid():
        raise UserError(f"only root can start workers as user {user}")
    return [*wrapper, "--", *command]


def run_first() -> None:
    """Be scheduled before all that is in no hurry, if we may (RLIMIT_RTPRIO or CAP_SYS_NICE): the kernel keeps 3 to 50
    requests that nobody has accepted and fails the rest. What we start, workers and threads, is scheduled as usual."""
    try:
        os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(1))
    except OSError as error:
        log.info("scheduled like everything else, so a busy machine may cost the kernel requests: %s", error.strerror)


def _account(user: str | None) -> pwd.struct_passwd:
    for name in (user,) if user is not None else ("quic-tlshd", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise UserError(f"there is no user {user or 'quic-tlshd, nor nobody'}")
