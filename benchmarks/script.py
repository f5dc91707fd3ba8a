"""What the scripts of this folder share: their arguments, their validation pictures, tables and results."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table

from shcodec.bench.report import describe_environment


def make_parser(doc: str | None) -> argparse.ArgumentParser:
    """Return a parser of arguments that is described by the first line of a script's docstring."""
    return argparse.ArgumentParser(description=(doc or "").splitlines()[0])


def validation_folder(parser: argparse.ArgumentParser, given: Path | None) -> Path:
    """Return the folder of pictures that was given, else `val/` of the folder SHC_DATA; fails where neither is."""
    if given is None and "SHC_DATA" not in os.environ:
        parser.error("name a folder with --data, or the folder of all data in SHC_DATA")
    return given or Path(os.environ["SHC_DATA"], "val")


def make_table(title: str | None, headers: Sequence[str], left: int = 1) -> Table:
    """Return an empty table for the terminal, whose first `left` columns hold names and the others figures."""
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for number, header in enumerate(headers):
        table.add_column(header, justify="left" if number < left else "right")
    return table


def write_results(path: Path, document: Mapping[str, Any], script: str | None = None) -> None:
    """Write results as JSON.

    Args:
        path: of the file.
        document: what was measured.
        script: the script's `__file__`, where its command, the machine and the versions belong to the results.
    """
    if script is not None:
        command = shlex.join(["python", f"benchmarks/{Path(script).name}", *sys.argv[1:]])
        document = {**document, "environment": describe_environment(command)}
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
