"""What a batch came to: one line after several files."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from shcodec.cli.batch.plan import Plan
from shcodec.cli.console import print_json, say


@dataclass
class Totals:
    """Sums over the files of a batch that went well.

    Attributes:
        files: how many there were.
        read, written: bytes of the inputs and of the outputs; 0 where a command has none.
        coded: bytes of the .shc files.
        pixels: of the pictures.
        start: when the batch began.
    """

    files: int = 0
    read: int = 0
    written: int = 0
    coded: int = 0
    pixels: int = 0
    start: float = field(default_factory=time.perf_counter)

    def add(self, *, read: int | None = None, written: int = 0, coded: int = 0, pixels: int = 0) -> None:
        """Count one file; the bytes of an input that is a pipe are not known."""
        self.files += 1
        self.read += read or 0
        self.written += written
        self.coded += coded
        self.pixels += pixels

    def report(self, plan: Plan, *, as_json: bool = False) -> None:
        """Write a line to stderr, unless the batch was of a single file: stdout holds one line per file.

        Args:
            plan: what was to be done; what of it was not counted has failed.
            as_json: write one JSON object.
        """
        tried = len(plan.jobs) + len(plan.problems)
        if tried < 2:
            return
        seconds, failed = time.perf_counter() - self.start, tried - self.files
        bpp = 8 * self.coded / self.pixels if self.pixels else None
        if as_json:
            sums = {"files": self.files, "input_bytes": self.read, "output_bytes": self.written, "bpp": bpp}
            print_json({"totals": {**sums, "failed": failed, "seconds": seconds}}, err=True)
            return
        sizes = [f"{size:,} B" for size in (self.read, self.written) if size]
        parts: Sequence[str] = (
            f"{self.files} file{'s' * (self.files != 1)}",
            " -> ".join(sizes),
            "" if bpp is None else f"{bpp:.3f} bpp",
            f"{failed} failed" if failed else "",
            f"{seconds:.2f} s",
        )
        say(f"shc: {', '.join(part for part in parts if part)}", err=True)
