"""Files that are written whole or not at all."""

from __future__ import annotations

import contextlib
import functools
import os
import platform
import re
import secrets
import stat
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

if sys.platform != "win32":
    import fcntl


@contextmanager
def replacing(target: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Yield a file that takes the place of `target` when the block ends well, and vanishes when it does not.

    It lies beside the target until it is renamed, so that the old content is there until the new one is on the disk. A
    symbolic link stays one; a file that is replaced hands its permissions on. What a killed process left behind is
    removed when the next one writes into the same folder.

    Raises:
        OSError: the system refuses; it names the target. What else the block raises goes on as it is.
    """
    final = os.path.realpath(target)
    folder = os.path.dirname(final)
    _sweep(folder)
    try:
        descriptor, temporary = _create(folder)
    except OSError as error:
        raise OSError(error.errno, error.strerror, os.fspath(target)) from error
    try:
        with _locked(descriptor):
            with open(descriptor, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            with contextlib.suppress(OSError):  # there is none, or it belongs to someone else
                os.chmod(temporary, stat.S_IMODE(os.stat(final).st_mode))
            os.replace(temporary, final)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        if isinstance(error, OSError) and error.errno is not None:  # the system's; the block's own say what is wrong
            raise OSError(error.errno, error.strerror, os.fspath(target)) from error
        raise


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a text file in UTF-8, where that cannot hold a character with an escape; see `replacing`."""
    with replacing(path) as file:
        file.write(text.encode("utf-8", "backslashreplace"))


# -- temporary files ------------------------------------------------------------------------------
#
# Each is locked as long as its process is alive; the system lifts the lock however that ends. So a temporary file that
# can be locked belongs to nobody. Its name tells the machine, since locks need not reach across a network.


@functools.cache
def _prefix() -> str:
    return f".shc-{zlib.crc32(platform.node().encode()):08x}-"


def _create(folder: str) -> tuple[int, str]:
    """Make a temporary file; returns its descriptor and its path."""
    while True:
        temporary = os.path.join(folder, f"{_prefix()}{secrets.token_hex(6)}.tmp")
        # O_EXCL: never through a link that someone else put there. 0o666: the umask decides, as for any new file.
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
        if _lock(descriptor) is not False and (os.fstat(descriptor).st_nlink or sys.platform == "win32"):
            return descriptor, temporary
        os.close(descriptor)  # somebody sweeps the folder, and came between the two calls
        with contextlib.suppress(OSError):
            os.unlink(temporary)


def _lock(descriptor: int) -> bool | None:
    """Lock a file: True; False if someone else has locked it; None where the system has no locks."""
    if sys.platform == "win32":
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


@contextmanager
def _locked(descriptor: int) -> Iterator[None]:
    """Keep a lock beyond the closing of the descriptor that holds it."""
    if sys.platform == "win32":  # where an open file cannot be renamed
        yield
        return
    held = os.dup(descriptor)
    try:
        yield
    finally:
        os.close(held)


@functools.cache
def _sweep(folder: str) -> None:
    """Remove what killed processes of this user left in a folder: once per process, as a folder may be long."""
    pattern = re.compile(re.escape(_prefix()) + r"[0-9a-f]{12}\.tmp")
    try:
        with os.scandir(folder or ".") as entries:
            left = [entry.path for entry in entries if pattern.fullmatch(entry.name)]
    except OSError:  # whatever is wrong with the folder shows when the file is made
        return
    for path in left:
        with contextlib.suppress(OSError):
            _remove_if_left(path)


def _remove_if_left(path: str) -> None:
    """Remove a regular file of this user that nobody has locked."""
    if sys.platform == "win32":
        return
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        status = os.fstat(descriptor)
        if stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid() and _lock(descriptor):
            os.unlink(path)
    finally:
        os.close(descriptor)
