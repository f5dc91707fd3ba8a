"""Names and bytes: which output belongs to which input, reading, and writing without half-written files."""

from __future__ import annotations

import errno
import io
import os
import re
import stat
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO

from shcodec.cli.console import StandardOutputError, is_terminal, shown
from shcodec.cli.inputs import STDIO, Input, check_names, gather, is_picture, is_several, is_shc
from shcodec.container import MAX_CHUNKS_SIZE, MAX_HEADER_SIZE, unpack_header
from shcodec.support.atomic import replacing
from shcodec.support.errors import ShcError, UsageError
from shcodec.support.limits import MAX_SIDE

_STREAMS = ("/dev/stdin", "/dev/stdout", "/dev/stderr")


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
    def is_done(self) -> bool:
        """Whether the output is a file that exists."""
        return os.path.isfile(self.target) and descriptor_of(self.target) is None and not self.onto_itself

    @property
    def is_stale(self) -> bool:
        """Whether the output is older than the input that it was made from."""
        try:
            return os.stat(self.target).st_mtime_ns < os.stat(self.source).st_mtime_ns
        except OSError:
            return False

    @property
    def hindrance(self) -> str:
        """Why the output cannot be written, as far as that shows beforehand; "" if nothing does.

        A folder that is not there does not count: it may be made.
        """
        if self.target == STDIO or _is_stream(self.target):
            return ""
        folder = os.path.dirname(_real(self.target))
        try:
            if not stat.S_ISDIR(os.stat(folder).st_mode):
                return os.strerror(errno.ENOTDIR)
            if os.access(folder, os.W_OK):
                return ""
            read_only = hasattr(os, "statvfs") and os.statvfs(folder).f_flag & os.ST_RDONLY
        except FileNotFoundError:
            return ""
        except OSError as error:
            return error.strerror or str(error)
        return os.strerror(errno.EROFS if read_only else errno.EACCES)

    @property
    def onto_itself(self) -> bool:
        """Whether the result would replace the input: never wanted, but an input that is unreadable matters more."""
        return STDIO not in (self.source, self.target) and _real(self.source) == _real(self.target)

    def with_content(self) -> Job:
        """Return this job with its input read, so that it can be done where its name means nothing.

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
        notes: lines about what was decided on the way.
        left_out: number of jobs that are done already.
        folder: where the outputs go, if that was said.
    """

    jobs: tuple[Job, ...]
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    left_out: int = 0
    folder: str | None = None


def plan(
    paths: Sequence[str],
    folder: str | None,
    suffix: str,
    is_output: Callable[[str], bool],
    fits: Callable[[str], bool],
) -> Plan:
    """Pairs inputs with outputs.

    Exactly two paths of which the second is an output (`is_output`, a stream or "-") are one job, and so is one path
    with a `folder` that is a file or is called like one. Otherwise all are inputs, and the outputs lie beside them or
    in `folder`, under the same name with the suffix `suffix`; where that would be the same for several, under the whole
    name and the suffix. What was found below a named folder lies in `folder` as it lay in that. Outputs of an earlier
    call among the inputs are left out.

    Args:
        paths: as the user gave them.
        folder: where the outputs go; None is beside the inputs.
        suffix: of the outputs.
        is_output: whether the second of two names is that of the output.
        fits: whether a file in a named folder is an input.

    Raises:
        UsageError: "-" among several inputs, an output given together with a folder or for several inputs, an output
            that is a folder or another input, two inputs with the same output, or a word that is neither an input nor
            an output. Where files were found in folders, a clash of outputs is a problem of those files alone.
    """
    check_names(paths if folder is None else (*paths, folder))
    paths = [STDIO if descriptor_of(path) == 0 else path for path in paths]
    if len(paths) == 2 and _is_pair(paths[0], paths[1], is_output):
        if folder is not None:
            raise UsageError(f"give either the output {shown(paths[1])} or -o, not both")
        return _single(paths[0], paths[1])
    if folder is not None and _is_called_like_a_file(folder, suffix):
        if len(paths) > 1:
            raise UsageError(f"-o {shown(folder)} is a file for {len(paths)} inputs; name a folder")
        return _single(paths[0], folder)
    if STDIO in paths:
        if len(paths) > 1 or folder is not None:
            raise UsageError("- (standard input) goes alone or with one output")
        return Plan((Job(STDIO, STDIO),))
    if folder is None and len(paths) > 1:
        _refuse_riddles(paths, suffix)
    inputs, problems = gather(paths, fits)
    inputs, notes = _without_outputs(inputs, is_shc if suffix == ".shc" else is_picture)
    jobs, renamed = _named(inputs, folder, suffix)
    return replace(_without_clashes(jobs, problems), notes=(*notes, *renamed), folder=folder)


def make_folder(plan: Plan) -> None:
    """Make the folder for outputs, if one is named."""
    if plan.folder is not None:
        os.makedirs(plan.folder, exist_ok=True)


def descriptor_of(path: str) -> int | None:
    """Return the number of an open descriptor that a name stands for, such as /dev/stdout.

    To open such a name is to open the file behind it anew: that would cut it short, and write over what others write.
    """
    if path in _STREAMS:
        return _STREAMS.index(path)
    match = re.fullmatch(r"/(?:dev|proc/self)/fd/(\d+)", path)
    return int(match[1]) if match else None


@contextmanager
def open_input(job: Job) -> Iterator[BinaryIO]:
    """Open the input of a job for reading."""
    if job.content is not None:
        yield io.BytesIO(job.content)
    elif job.source == STDIO:
        if sys.stdin is None:  # closed by whoever started the command
            raise OSError(errno.EBADF, "standard input is closed")
        if is_terminal(sys.stdin):
            raise UsageError("not reading a file from a terminal; name an input or redirect stdin")
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
    """Read an .shc file whole, once its first bytes have shown that it is one and how long it can be at most.

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


def write_output(job: Job, data: bytes | memoryview, *, new: bool = False) -> None:
    """Write the result of a job: all of it or nothing, over an existing file as well.

    A regular file is written under a temporary name in the same folder and then renamed; for an input that was found
    below a folder, the output's folder is made. Devices, pipes and open descriptors are written to as they are; a
    symbolic link stays one, and what it points to is replaced.

    Args:
        job: where it goes.
        data: the result.
        new: refuse to replace a file, which somebody has made since the work began; or an earlier job has, where names
            that differ are one to the file system.

    Raises:
        UsageError: the result would replace its own input.
        ShcError: there is a file, and `new`.
        OSError: the system refuses; what was there is as it was.
    """
    if job.onto_itself:
        raise UsageError(f"the output {shown(job.target)} is the input itself; name another")
    if new and job.is_done:
        raise ShcError(f"{shown(job.target)}: exists by now (-f overwrites it)")
    descriptor = descriptor_of(job.target)
    try:
        if job.target == STDIO:
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
        elif descriptor is not None:
            with open(os.dup(descriptor), "wb") as file:
                file.write(data)
        elif os.path.exists(job.target) and not os.path.isfile(job.target):
            with open(job.target, "wb") as file:
                file.write(data)
        else:
            if job.listed:
                os.makedirs(os.path.dirname(job.target) or ".", exist_ok=True)
            with replacing(job.target) as file:
                file.write(data)
    except OSError as error:
        if job.target == STDIO:
            raise StandardOutputError(error.errno, error.strerror, "standard output") from error
        raise OSError(error.errno, error.strerror, job.target) from error


def _is_pair(first: str, second: str, is_output: Callable[[str], bool]) -> bool:
    """Whether two paths are an input and its output; two folders or patterns are two inputs."""
    if second == STDIO or descriptor_of(second) == 1:
        return True
    return (is_output(second) or _is_stream(second)) and not (is_several(first) and is_several(second))


def _is_stream(path: str) -> bool:
    """Whether a name is that of a device, a pipe or an open descriptor."""
    if descriptor_of(path) is not None:
        return True
    return os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path)


def _is_called_like_a_file(path: str, suffix: str) -> bool:
    """Whether what is given as a folder is a file or a stream, or has the suffix of an output and is no folder."""
    if path == STDIO or _is_stream(path) or os.path.isfile(path):
        return True
    return not os.path.isdir(path) and (is_shc(path) if suffix == ".shc" else is_picture(path))


def _single(source: str, target: str) -> Plan:
    """Return the plan for one input and its output."""
    if is_several(source):
        raise UsageError(f"{shown(source)} stands for several inputs; give a folder for the outputs with -o")
    if descriptor_of(target) == 1:
        target = STDIO
    return _without_clashes([Job(source, target)], [])


def _refuse_riddles(paths: Sequence[str], suffix: str) -> None:
    """Refuses a last word that may be meant as an output, before anything is done with it as an input.

    Raises:
        UsageError: a folder after files, or of two words a second that is no file.
    """
    *_, last = paths
    if os.path.isdir(last) and not any(map(os.path.isdir, paths[:-1])):
        raise UsageError(f"{shown(last)} is a folder: -o {shown(last)} puts outputs there; as an input, name it first")
    if len(paths) == 2 and not os.path.lexists(last) and not is_several(last):
        work, outputs = ("encode", "ends in .shc") if suffix == ".shc" else ("decode", "is called like a picture")
        raise UsageError(f"there is no file {shown(last)} to {work}; an output {outputs}")


def _without_outputs(inputs: list[Input], is_output: Callable[[str], bool]) -> tuple[list[Input], list[str]]:
    """Leaves out what an earlier call has made, unless that is all there is; and a line about it."""
    kept = [file for file in inputs if not is_output(file.path)]
    number = len(inputs) - len(kept)
    if not kept or not number:
        return inputs, []
    return kept, [f"{number} left out, as {'it looks like an output' if number == 1 else 'they look like outputs'}"]


def _named(inputs: Sequence[Input], folder: str | None, suffix: str) -> tuple[list[Job], list[str]]:
    """Names the outputs; those that would clash keep the suffix of the input, as in a.jpg.shc; and a line about it."""
    whole: set[Input] = set()
    while True:
        targets = {file: _output(file, folder, suffix, whole=file in whole) for file in dict.fromkeys(inputs)}
        by_target: dict[str, set[Input]] = {}
        for file, target in targets.items():
            by_target.setdefault(_real(target), set()).add(file)
        # One file by two names gets no two outputs: that is told as a mistake.
        groups = [group for group in by_target.values() if len({_real(file.path) for file in group}) > 1]
        more = {file for group in groups for file in group} - whole
        if not more:
            break
        whole |= more
    jobs = [Job(file.path, targets[file], listed=file.listed) for file in inputs]
    told = [shown(job.target) for job, file in zip(jobs, inputs, strict=True) if file in whole]
    if not told:
        return jobs, []
    return jobs, [f"{len(told)} inputs differ in nothing but their suffix, so outputs keep it, as {told[0]} does"]


def _output(file: Input, folder: str | None, suffix: str, *, whole: bool) -> str:
    """Return the output's name: that of the input with another suffix, or one more, beside it or in `folder`."""
    path = Path(file.path)
    if not path.name:
        raise UsageError(f"{shown(file.path)} is no name of a file")
    name = path.with_name(path.name + suffix) if whole else path.with_suffix(suffix)
    if folder is None:
        return str(name)
    return str(Path(folder, name.name if file.root is None else name.relative_to(file.root)))


def _without_clashes(jobs: Sequence[Job], problems: Sequence[str]) -> Plan:
    """Take out the jobs whose output is a folder, another job's output, or another job's input."""
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
    """Tell what is wrong with an output that jobs of `group` would write and `reader` has as input; "" if nothing."""
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
    """Return the absolute path behind links, so that two names of one file compare equal."""
    return os.path.realpath(path)
