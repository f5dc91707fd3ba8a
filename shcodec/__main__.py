"""The entry point: `python -m shcodec` is the command `shc`."""

from __future__ import annotations

import signal
import sys


def main() -> int:
    """Run the command line and return the exit code.

    Until its modules are imported, Ctrl-C ends the process by the signal itself: there is nobody to catch it yet.
    """
    python_handles = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if python_handles:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from shcodec import cli

    if python_handles:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
