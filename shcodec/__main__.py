"""`python -m shcodec` is the command `shc`."""

from __future__ import annotations

import sys

from shcodec.cli import main

if __name__ == "__main__":
    sys.exit(main())
