"""Trainings that use only the processor time that other programs leave."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path


def lowest_priority() -> None:
    """Give this process the lowest priority that the system knows.

    On Linux the idle class; elsewhere the highest niceness. Linux may share the processor out by sessions first: a
    process that leads a session of its own (as `setsid` starts one) gives the session the lowest priority as well,
    one that shares a terminal's leaves the others there alone.
    """
    if hasattr(os, "setpriority"):
        os.setpriority(os.PRIO_PROCESS, 0, 19)
    if sys.platform == "linux":
        with suppress(OSError):  # a container may forbid it: niceness remains
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
        if os.getsid(0) == os.getpid():
            with suppress(OSError):
                Path("/proc/self/autogroup").write_text("19")
