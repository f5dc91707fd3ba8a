"""Measures cells: every picture, by every codec, at every setting; on one process or several.

A cell is written to results.csv the moment it is done, so that an interrupted run loses nothing; whatever cannot be
measured becomes a `Failure`, and the rest goes on.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shcodec.bench import metrics
from shcodec.bench.cells import Cell, Failure, csv_text
from shcodec.bench.codecs import Codec, ShcCodec
from shcodec.bench.datasets import PictureFile
from shcodec.pictures.picture import Pixels
from shcodec.pictures.reading import read_picture
from shcodec.support.errors import PictureError, ShcError
from shcodec.support.text import shown


@dataclass(frozen=True)
class Task:
    """One cell to be measured.

    Attributes:
        picture: the picture.
        codec: the codec.
        setting: one of its settings.
        repeat: how often it is encoded and decoded; seconds are the medians.
        timed: whether seconds are kept; they mean little while other processes run.
        process_times: whether whole processes are timed as well, where the codec is this project's.
    """

    picture: PictureFile
    codec: Codec
    setting: float
    repeat: int = 1
    timed: bool = True
    process_times: bool = False


def plan(
    pictures: Iterable[PictureFile],
    codecs: Sequence[Codec],
    done: Iterable[Cell] = (),
    *,
    repeat: int = 1,
    timed: bool = True,
    process_times: bool = False,
) -> list[Task]:
    """List the cells that are still to be measured, picture by picture.

    Args:
        pictures: the pictures.
        codecs: the codecs.
        done: cells that exist already.
        repeat: see `Task`.
        timed: see `Task`.
        process_times: see `Task`.
    """
    finished = {(cell.image, cell.codec, cell.setting) for cell in done}
    return [
        Task(picture, codec, setting, repeat, timed, process_times)
        for picture in pictures
        for codec in codecs
        for setting in codec.settings
        if (picture.name, codec.name, setting) not in finished
    ]


def check_pictures(pictures: Iterable[PictureFile]) -> tuple[list[PictureFile], list[Failure]]:
    """Open every picture once, so that a damaged or wrong one is reported once and not for every cell.

    Returns:
        The pictures that can be read and are what they should be, and a failure for each of the others.
    """
    readable: list[PictureFile] = []
    failures: list[Failure] = []
    load.cache_clear()  # the file may have changed since an earlier run in this process
    for picture in pictures:
        try:
            rgb = load(picture.path)
            if picture.pin is not None:
                picture.pin.check(rgb)
        except ShcError as error:
            failures.append(Failure(picture.name, "", "", describe_error(error)))
        else:
            readable.append(picture)
    return readable, failures


def measure_all(
    tasks: Sequence[Task], table: Path, *, jobs: int = 1, on_done: Callable[[], None] = lambda: None
) -> tuple[list[Cell], list[Failure]]:
    """Measure cells and append each to a CSV file as soon as it is done.

    Args:
        tasks: the cells to measure.
        table: results.csv, which exists with its line of column names.
        jobs: processes; each computes on one thread where there are several.
        on_done: called after each cell, for a progress bar.

    Returns:
        The new cells, and what failed.
    """
    cells: list[Cell] = []
    failures: list[Failure] = []
    with table.open("a", encoding="utf-8", newline="") as file:
        for outcome in map(measure_cell, tasks) if jobs == 1 else _parallel(tasks, jobs):
            if isinstance(outcome, Cell):
                cells.append(outcome)
                file.write(csv_text([outcome], header=False))
                file.flush()
            else:
                failures.append(outcome)
            on_done()
    return cells, failures


def measure_cell(task: Task) -> Cell | Failure:
    """Encode a picture to a whole file, decode that file, and compare."""
    try:
        return _measure(task)
    except Exception as error:
        # Codecs are foreign code and raise what they like; a failure is a result here and is listed as one.
        return _failure(task, error)


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
        return _process_median(encode, repeat), _process_median(decode, repeat)


def _measure(task: Task) -> Cell:
    rgb = load(task.picture.path)
    if task.timed:
        _warm_up(task.codec)
    seconds: tuple[list[float], list[float]] = ([], [])
    data, decoded = b"", rgb
    for _ in range(task.repeat):
        start = time.perf_counter()
        data = task.codec.encode(rgb, task.setting)
        middle = time.perf_counter()
        decoded = task.codec.decode(data)
        seconds[0].append(middle - start)
        seconds[1].append(time.perf_counter() - middle)
    if decoded.shape != rgb.shape:
        sizes = [f"{picture.shape[1]}x{picture.shape[0]}" for picture in (rgb, decoded)]
        raise PictureError(f"{sizes[0]} went in, {sizes[1]} came out")
    quality = metrics.measure(rgb, decoded)
    enc_process_s, dec_process_s = _process_seconds(task)
    return Cell(
        image=task.picture.name,
        codec=task.codec.name,
        setting=task.setting,
        size=len(data),
        width=rgb.shape[1],
        height=rgb.shape[0],
        psnr=quality.psnr,
        ms_ssim=quality.ms_ssim,
        ms_ssim_db=quality.ms_ssim_db,
        ssim=quality.ssim,
        enc_s=statistics.median(seconds[0]) if task.timed else None,
        dec_s=statistics.median(seconds[1]) if task.timed else None,
        enc_process_s=enc_process_s,
        dec_process_s=dec_process_s,
    )


def _process_seconds(task: Task) -> tuple[float, float] | tuple[None, None]:
    if not task.process_times or not isinstance(task.codec, ShcCodec):
        return None, None
    return time_processes(task.codec, task.picture.path, task.setting, task.repeat)


def _process_median(arguments: Sequence[str], repeat: int) -> float:
    return statistics.median(_seconds_of(arguments) for _ in range(repeat))


def _seconds_of(arguments: Sequence[str]) -> float:
    start = time.perf_counter()
    finished = subprocess.run(
        [sys.executable, "-m", "shcodec", *arguments], capture_output=True, text=True, errors="replace", check=False
    )
    seconds = time.perf_counter() - start
    if finished.returncode:
        said = finished.stderr.strip().splitlines() or ["no message"]
        raise ShcError(f"shc {arguments[0]} as a process failed ({finished.returncode}): {said[-1]}")
    return seconds


@functools.lru_cache(maxsize=1)
def load(path: Path) -> Pixels:
    """Read a picture as (H, W, 3) uint8 RGB, not writeable; the last is kept, since its cells come in a row."""
    rgb = read_picture(path).rgb
    rgb.flags.writeable = False
    return rgb


@functools.lru_cache
def _warm_up(codec: Codec) -> None:
    """Run a codec once per process before it is timed, so that imports and loading a model do not count."""
    ramp = np.linspace(0, 255, 64, dtype=np.uint8)
    small = np.ascontiguousarray(np.broadcast_to(ramp[:, None, None], (64, 64, 3)))
    codec.decode(codec.encode(small, codec.settings[-1]))


def _parallel(tasks: Sequence[Task], jobs: int) -> Iterator[Cell | Failure]:
    # Workers start afresh: a fork would copy the thread pools of onnxruntime and torch in an unknown state.
    pool = ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), initializer=_prepare_worker)
    try:
        futures: dict[Future[Cell | Failure], Task] = {pool.submit(measure_cell, task): task for task in tasks}
        for future in as_completed(futures):
            try:
                yield future.result()
            except BrokenProcessPool as error:
                # A codec took its process down; what was not measured is listed, and --resume takes it up again.
                yield _failure(futures[future], error)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _prepare_worker() -> None:
    """Leave Ctrl-C to the parent, which lets running cells end; keep the networks of shc to one core."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ["SHC_THREADS"] = "1"


def _failure(task: Task, error: Exception) -> Failure:
    return Failure(task.picture.name, task.codec.name, f"{task.setting:g}", describe_error(error))


def describe_error(error: Exception) -> str:
    """Say what went wrong in one line; an error that is not this project's own is named by its kind."""
    text = shown(" ".join(str(error).split()))
    return text if isinstance(error, ShcError) and text else f"{type(error).__name__}: {text}".rstrip(": ")
