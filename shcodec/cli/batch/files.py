"""One input and its output: reading the first, and writing the second whole or not at all."""

from __future__ import annotations

import errno
import io
import os
import re
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import BinaryIO

from shcodec.cli.batch.inputs import STDIO
from shcodec.cli.console import StandardOutputError
from shcodec.container import MAX_CHUNKS_SIZE, MAX_HEADER_SIZE, unpack_header
from shcodec.support.atomic import replacing
from shcodec.support.errors import ShcError, UsageError
from shcodec.support.limits import MAX_SIDE
from shcodec.support.progress import is_terminal
from shcodec.support.text import shown

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
        """Why the output cannot be written, as far as that can be seen beforehand; "" if it can.

        A folder that is not there does not count: it may be made.
        """
        if self.target == STDIO or is_stream(self.target):
            return ""
        folder = os.path.dirname(real_path(self.target))
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
        """Whether the output is the input itself, which `write_output` refuses (an unreadable input comes first)."""
        return STDIO not in (self.source, self.target) and real_path(self.source) == real_path(self.target)

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
    """Return the size of a file whose reading is done; None of a pipe."""
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


def is_stream(path: str) -> bool:
    """Whether a name is that of a device, a pipe or an open descriptor."""
    if descriptor_of(path) is not None:
        return True
    return os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path)


def real_path(path: str) -> str:
    """Return the absolute path behind links, so that two names of one file compare equal."""
    return os.path.realpath(path)
