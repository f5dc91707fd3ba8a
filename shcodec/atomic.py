"""Files that are written whole or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO


@contextmanager
def replacing(target: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A file that takes the place of `target` when the block ends well, and vanishes when it does not.

    It lies beside the target until it is renamed, so that the old content is there until the new one is on the disk. A
    symbolic link stays one; a file that is replaced hands its permissions on.

    Raises:
        OSError: the system refuses; it names the target.
    """
    final = os.path.realpath(target)
    temporary = os.path.join(os.path.dirname(final), f".shc-{secrets.token_hex(6)}.tmp")
    try:
        # O_EXCL: never through a link that someone else put there. 0o666: the umask decides, as for any new file.
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
    except OSError as error:
        raise OSError(error.errno, error.strerror, os.fspath(target)) from error
    try:
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
        if isinstance(error, OSError):
            raise OSError(error.errno, error.strerror, os.fspath(target)) from error
        raise


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Writes a text file in UTF-8; see `replacing`."""
    with replacing(path) as file:
        file.write(text.encode("utf-8"))
