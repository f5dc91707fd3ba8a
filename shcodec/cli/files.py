"""Names and bytes: which output belongs to which input, reading, and writing without half-written files."""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeVar

from click.exceptions import Exit

from shcodec.atomic import replacing
from shcodec.cli.console import one_line, progress, report_error, shown
from shcodec.container import MAX_CHUNKS_SIZE, MAX_HEADER_SIZE, MAX_SIDE, unpack_header
from shcodec.errors import ShcError, UsageError

STDIO = "-"
"""The name that means standard input or standard output."""

_Item = TypeVar("_Item")


@dataclass(frozen=True)
class Job:
    """One input and where its result goes; either may be `STDIO`."""

    source: str
    target: str

    @property
    def onto_itself(self) -> bool:
        """Whether the result would replace the input: never wanted, but an input that is unreadable matters more."""
        return STDIO not in (self.source, self.target) and _real(self.source) == _real(self.target)


def plan(paths: Sequence[str], folder: str | None, suffix: str, is_output: Callable[[str], bool]) -> tuple[Job, ...]:
    """Pairs inputs with outputs.

    Exactly two paths of which the second is an output (`is_output`, or "-") are one job. Otherwise all are inputs,
    and the outputs lie beside them or in `folder`, under the same name with the suffix `suffix`.

    Raises:
        UsageError: "-" among several inputs, an output given together with a folder, an output that is a folder or
            another input, or two inputs with the same output.
    """
    if len(paths) == 2 and (paths[1] == STDIO or is_output(paths[1])):
        if folder is not None:
            raise UsageError(f"give either the output {shown(paths[1])} or -o, not both")
        jobs: tuple[Job, ...] = (Job(paths[0], paths[1]),)
    elif STDIO in paths:
        if len(paths) > 1 or folder is not None:
            raise UsageError("- (standard input) goes alone or with one output")
        jobs = (Job(STDIO, STDIO),)
    else:
        jobs = tuple(Job(path, str(_beside(Path(path), folder, suffix))) for path in paths)
    _check_targets(jobs)
    return jobs


def run_jobs(jobs: Sequence[Job], work: Callable[[Job], None], *, force: bool, quiet: bool) -> None:
    """Does one job after the other; a failure is reported and the rest still done.

    Outputs that exist are refused before any work starts, unless `force`.

    Raises:
        UsageError: at once; wrong usage is the same for every job.
        click.exceptions.Exit: with code 1 at the end, if a job failed.
    """
    writes = any(job.target == STDIO for job in jobs)
    if writes and sys.stdout is None:
        raise UsageError("standard output is closed; name an output")
    if writes and sys.stdout.isatty():
        raise UsageError("not writing a picture to a terminal; name an output or redirect stdout")
    refused = set() if force else {job for job in jobs if os.path.isfile(job.target) and not job.onto_itself}
    for job in jobs:
        if job in refused:
            report_error(f"{shown(job.target)}: exists already (-f overwrites it)")
    wanted = [job for job in jobs if job not in refused]
    run_each(wanted, work, lambda job: job.source, quiet=quiet, failed=bool(refused))


def run_each(
    items: Sequence[_Item],
    work: Callable[[_Item], None],
    name: Callable[[_Item], str],
    *,
    quiet: bool,
    failed: bool = False,
) -> None:
    """Calls `work` for each item under a progress bar; see `run_jobs`."""
    with progress(len(items), quiet=quiet) as advance:
        for item in items:
            try:
                work(item)
            except (UsageError, BrokenPipeError):
                raise  # no other item would fare better
            except OSError as error:
                report_error(one_line(error) if error.filename else f"{shown(name(item))}: {one_line(error)}")
                failed = True
            except ShcError as error:
                report_error(f"{shown(name(item))}: {one_line(error)}")
                failed = True
            except Exception as error:  # whatever it is, the other files are still done
                if os.environ.get("SHC_TRACEBACK"):
                    raise
                report_error(
                    f"{shown(name(item))}: internal error: {type(error).__name__}: "
                    f"{one_line(error)} (SHC_TRACEBACK=1 shows where)"
                )
                failed = True
            advance()
    if failed:
        raise Exit(1)


def make_folder(folder: str | None) -> None:
    """Makes the folder for outputs, if one is named."""
    if folder is not None:
        os.makedirs(folder, exist_ok=True)


@contextmanager
def open_input(source: str) -> Iterator[BinaryIO]:
    """Opens an input for reading, or standard input for "-"."""
    if source == STDIO:
        if sys.stdin is None:  # closed by whoever started the command
            raise OSError(errno.EBADF, "standard input is closed")
        yield sys.stdin.buffer
        return
    with open(source, "rb") as file:
        yield file


def read_shc(source: str, *, max_pixels: int = MAX_SIDE**2) -> bytes:
    """Reads an .shc file whole, once its first bytes have shown that it is one and how long it can be at most.

    Raises:
        CorruptFileError: it does not begin like an .shc file.
        LimitError: its picture is larger than `max_pixels`.
        OSError: the system cannot read it.
    """
    with open_input(source) as file:
        head = file.read(MAX_HEADER_SIZE)
        header = unpack_header(head, max_pixels=max_pixels)
        # A device or a pipe may never end; no valid file is longer than its chunks and 8 bytes a padded pixel.
        limit = MAX_CHUNKS_SIZE + 8 * (header.width + 64) * (header.height + 64)
        status = os.fstat(file.fileno())
        if stat.S_ISREG(status.st_mode):
            limit = min(limit, status.st_size)
        return head + file.read(limit)


def write_output(job: Job, data: bytes | memoryview) -> None:
    """Writes the result of a job: all of it or nothing, over an existing file as well.

    A regular file is written under a temporary name in the same folder and then renamed. Devices and pipes are written
    to as they are; a symbolic link stays one, and what it points to is replaced.

    Raises:
        UsageError: the result would replace its own input.
        OSError: the system refuses; what was there is as it was.
    """
    if job.onto_itself:
        raise UsageError(f"the output {shown(job.target)} is the input itself; name another")
    try:
        if job.target == STDIO:
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
        elif os.path.exists(job.target) and not os.path.isfile(job.target):
            with open(job.target, "wb") as file:
                file.write(data)
        else:
            with replacing(job.target) as file:
                file.write(data)
    except OSError as error:
        raise OSError(error.errno, error.strerror, "standard output" if job.target == STDIO else job.target) from error


def _beside(path: Path, folder: str | None, suffix: str) -> Path:
    """The output's name: that of the input with another suffix, beside it or in `folder`."""
    if not path.name:
        raise UsageError(f"{shown(path)} is a folder")
    name = path.with_suffix(suffix)
    return name if folder is None else Path(folder) / name.name


def _check_targets(jobs: Sequence[Job]) -> None:
    """Refuses outputs that are folders, and outputs that would swallow another input or one another."""
    seen: dict[str, str] = {}
    inputs = {_real(job.source): job for job in jobs if job.source != STDIO}
    for job in jobs:
        if job.target == STDIO:
            continue
        if os.path.isdir(job.target):
            raise UsageError(f"the output {shown(job.target)} is a folder (-o DIR puts outputs there)")
        real = _real(job.target)
        if real in seen:
            raise UsageError(f"{shown(seen[real])} and {shown(job.source)} have the same output {shown(job.target)}")
        if inputs.get(real, job) != job:
            raise UsageError(f"the output {shown(job.target)} is an input as well")
        seen[real] = job.source


def _real(path: str) -> str:
    """The absolute path behind links, so that two names of one file compare equal."""
    return os.path.realpath(path)
