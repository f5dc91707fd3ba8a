"""Prints the pins of the pictures in a folder.

python -m shcodec.bench.make_pins FOLDER > shcodec/bench/pins/SET.csv
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from shcodec.bench.checksums import pins_csv
from shcodec.bench.datasets import pictures_by_name


def main(arguments: Sequence[str]) -> None:
    """Print the pins; the one argument is the folder."""
    if len(arguments) != 1:
        sys.exit("usage: python -m shcodec.bench.make_pins FOLDER > shcodec/bench/pins/SET.csv")
    sys.stdout.write(pins_csv(pictures_by_name(Path(arguments[0]))))


if __name__ == "__main__":
    main(sys.argv[1:])
