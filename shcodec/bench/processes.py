"""How long a user waits: `shc encode` and `shc decode` as whole processes."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from shcodec.bench.codecs import ShcCodec
from shcodec.support.errors import ShcError


def time_processes(codec: ShcCodec, picture: Path, setting: float, repeat: int = 1) -> tuple[float, float]:
    """Time both commands from the start of the process to its end, reading, loading and writing included.

    `shc encode` decodes its file once more to tell its PSNR; that is part of its time.

    Args:
        codec: model and effort.
        picture: the picture to encode.
        setting: of the codec: a beta, or a quality.
        repeat: runs of each command.

    Returns:
        Median seconds of encoding and of decoding.

    Raises:
        ShcError: a command failed.
    """
    with tempfile.TemporaryDirectory(prefix="shc-bench-") as folder:
        coded, decoded = str(Path(folder, "picture.shc")), str(Path(folder, "picture.png"))
        options = ["--quiet", "--force"]
        wanted = ["--model", codec.model, "--quality" if codec.by_quality else "--beta", f"{setting!r}"]
        if codec.effort is not None:
            wanted += ["--effort", str(codec.effort)]
        encode = ["encode", *options, *wanted, str(picture.absolute()), coded]
        decode = ["decode", *options, coded, decoded]
        return _median(encode, repeat), _median(decode, repeat)


def _median(arguments: Sequence[str], repeat: int) -> float:
    return statistics.median(_seconds(arguments) for _ in range(repeat))


def _seconds(arguments: Sequence[str]) -> float:
    start = time.perf_counter()
    finished = subprocess.run(
        [sys.executable, "-m", "shcodec", *arguments], capture_output=True, text=True, errors="replace", check=False
    )
    seconds = time.perf_counter() - start
    if finished.returncode:
        said = finished.stderr.strip().splitlines() or ["no message"]
        raise ShcError(f"shc {arguments[0]} as a process failed ({finished.returncode}): {said[-1]}")
    return seconds
