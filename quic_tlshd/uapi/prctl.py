"""include/uapi/linux/prctl.h, and what goes with it: who may look at this process's memory."""

from __future__ import annotations

import ctypes
import resource

_PR_SET_DUMPABLE = 4


def protect_memory() -> None:
    """Leave no core dump, and let no process of the same user attach to this one or read its memory: secrets are in it.

    An exec undoes it.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_DUMPABLE)")
