"""Trainings that take only what other programs leave."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path


def lowest_priority() -> None:
    """Gives this process the lowest priority that the system knows.

    On Linux the idle class, also within its session's scheduling group; elsewhere the highest niceness.
    """
    if hasattr(os, "nice"):
        os.nice(19)
    if sys.platform == "linux":
        with suppress(OSError):  # a container may forbid it: niceness remains
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
        with suppress(OSError):
            Path("/proc/self/autogroup").write_text("19")
