"""Names and bytes: which output belongs to which input, reading, and writing without half-written files."""

from __future__ import annotations

import errno
import io
import os
import stat
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO

from shcodec.atomic import replacing
from shcodec.cli.console import shown
from shcodec.cli.inputs import STDIO, Input, gather, is_several
from shcodec.container import MAX_CHUNKS_SIZE, MAX_HEADER_SIZE, MAX_SIDE, unpack_header
from shcodec.errors import ShcError, UsageError


@dataclass(frozen=True)
class Job:
    """One input and where its result goes.

    Attributes:
        source: name of the input, or `STDIO`.
        target: name of the output, or `STDIO`.
        listed: whether a folder or a pattern stood for the input, and the user has not named it.
        content: the bytes of the input, once they have been read.
    """

    source: str
    target: str = STDIO
    listed: bool = False
    content: bytes | None = field(default=None, repr=False)

    @property
    def onto_itself(self) -> bool:
        """Whether the result would replace the input: never wanted, but an input that is unreadable matters more."""
        return STDIO not in (self.source, self.target) and _real(self.source) == _real(self.target)

    def with_content(self) -> Job:
        """This job with its input read, so that it can be done where its name means nothing.

        Raises:
            OSError: the system cannot read it.
            ShcError: it is a device or a pipe, which may never end.
        """
        with open_input(self) as file:
            if self.source != STDIO and not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise ShcError("not a regular file, which could be sent to another machine")
            return replace(self, content=file.read())


@dataclass(frozen=True)
class Plan:
    """What a command is to do.

    Attributes:
        jobs: what can be done.
        problems: lines of error about what cannot.
        left_out: number of jobs that are done already.
    """

    jobs: tuple[Job, ...]
    problems: tuple[str, ...] = ()
    left_out: int = 0


def plan(
    paths: Sequence[str],
    folder: str | None,
    suffix: str,
    is_output: Callable[[str], bool],
    fits: Callable[[str], bool],
) -> Plan:
    """Pairs inputs with outputs.

    Exactly two paths of which the second is an output (`is_output`, or "-") are one job. Otherwise all are inputs,
    and the outputs lie beside them or in `folder`, under the same name with the suffix `suffix`. What was found below
    a named folder lies in `folder` as it lay in that.

    Args:
        paths: as the user gave them.
        folder: where the outputs go; None is beside the inputs.
        suffix: of the outputs.
        is_output: whether the second of two names is that of the output.
        fits: whether a file in a named folder is an input.

    Raises:
        UsageError: "-" among several inputs, an output given together with a folder or for several inputs, an output
            that is a folder or another input, or two inputs with the same output. Where files were found in folders, a
            clash of outputs is a problem of those files alone.
    """
    if len(paths) == 2 and _is_pair(paths[0], paths[1], is_output):
        if folder is not None:
            raise UsageError(f"give either the output {shown(paths[1])} or -o, not both")
        if is_several(paths[0]):
            raise UsageError(f"{shown(paths[0])} stands for several inputs; give a folder for the outputs with -o")
        return _without_clashes([Job(paths[0], paths[1])], [])
    if STDIO in paths:
        if len(paths) > 1 or folder is not None:
            raise UsageError("- (standard input) goes alone or with one output")
        return Plan((Job(STDIO, STDIO),))
    inputs, problems = gather(paths, fits)
    jobs = [Job(file.path, _output(file, folder, suffix), listed=file.listed) for file in inputs]
    return _without_clashes(jobs, problems)


def make_folder(folder: str | None) -> None:
    """Makes the folder for outputs, if one is named."""
    if folder is not None:
        os.makedirs(folder, exist_ok=True)


@contextmanager
def open_input(job: Job) -> Iterator[BinaryIO]:
    """Opens the input of a job for reading."""
    if job.content is not None:
        yield io.BytesIO(job.content)
    elif job.source == STDIO:
        if sys.stdin is None:  # closed by whoever started the command
            raise OSError(errno.EBADF, "standard input is closed")
        yield sys.stdin.buffer
    else:
        with open(job.source, "rb") as file:
            yield file


def bytes_read(file: BinaryIO) -> int | None:
    """Bytes of a file that has been read to where it matters; None of a pipe."""
    try:
        return file.seek(0, os.SEEK_END)
    except (OSError, ValueError):
        return None


def read_shc(job: Job, *, max_pixels: int = MAX_SIDE**2) -> bytes:
    """Reads an .shc file whole, once its first bytes have shown that it is one and how long it can be at most.

    Raises:
        CorruptFileError: it does not begin like an .shc file.
        LimitError: its picture is larger than `max_pixels`.
        OSError: the system cannot read it.
    """
    with open_input(job) as file:
        head = file.read(MAX_HEADER_SIZE)
        header = unpack_header(head, max_pixels=max_pixels)
        # A device or a pipe may never end; no valid file is longer than its chunks and 8 bytes a padded pixel.
        limit = MAX_CHUNKS_SIZE + 8 * (header.width + 64) * (header.height + 64)
        if job.content is None:
            status = os.fstat(file.fileno())
            if stat.S_ISREG(status.st_mode):
                limit = min(limit, status.st_size)
        return head + file.read(limit)


def write_output(job: Job, data: bytes | memoryview) -> None:
    """Writes the result of a job: all of it or nothing, over an existing file as well.

    A regular file is written under a temporary name in the same folder and then renamed; for an input that was found
    below a folder, the output's folder is made. Devices and pipes are written to as they are; a symbolic link stays
    one, and what it points to is replaced.

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
            if job.listed:
                os.makedirs(os.path.dirname(job.target) or ".", exist_ok=True)
            with replacing(job.target) as file:
                file.write(data)
    except OSError as error:
        raise OSError(error.errno, error.strerror, "standard output" if job.target == STDIO else job.target) from error


def _is_pair(first: str, second: str, is_output: Callable[[str], bool]) -> bool:
    """Whether two paths are an input and its output; two folders or patterns are two inputs."""
    return second == STDIO or (is_output(second) and not (is_several(first) and is_several(second)))


def _output(file: Input, folder: str | None, suffix: str) -> str:
    """The output's name: that of the input with another suffix, beside it or in `folder`."""
    path = Path(file.path)
    if not path.name:
        raise UsageError("an empty name is none of a file")
    name = path.with_suffix(suffix)
    if folder is None:
        return str(name)
    return str(Path(folder, name.name if file.root is None else name.relative_to(file.root)))


def _without_clashes(jobs: Sequence[Job], problems: Sequence[str]) -> Plan:
    """Takes out the jobs whose output is a folder, another job's output, or another job's input."""
    by_target: dict[str, list[Job]] = {}
    for job in jobs:
        if job.target != STDIO:
            by_target.setdefault(_real(job.target), []).append(job)
    by_source = {_real(job.source): job for job in jobs if job.source != STDIO}
    clashing: set[Job] = set()
    lines = list(problems)
    for real, group in by_target.items():
        line = _clash(group, by_source.get(real))
        if line:
            if not any(job.listed for job in group):
                raise UsageError(line)
            lines.append(line)
            clashing.update(group)
    return Plan(tuple(job for job in jobs if job not in clashing), tuple(lines))


def _clash(group: Sequence[Job], reader: Job | None) -> str:
    """What is wrong with an output that the jobs of `group` would write and `reader` has as input; "" if nothing."""
    target = shown(group[0].target)
    if os.path.isdir(group[0].target):
        return f"the output {target} is a folder (-o DIR puts outputs there)"
    if len(group) > 1:
        sources = [shown(job.source) for job in group]
        return f"{', '.join(sources[:-1])} and {sources[-1]} have the same output {target}"
    if reader is not None and reader != group[0]:
        return f"the output {target} is an input as well"
    return ""


def _real(path: str) -> str:
    """The absolute path behind links, so that two names of one file compare equal."""
    return os.path.realpath(path)
