"""Which files are meant: names, folders, and patterns that no shell has expanded."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from shcodec.support.errors import UsageError
from shcodec.support.limits import BY_OTHER_PROGRAMS
from shcodec.support.text import one_line, shown

STDIO = "-"
"""The name that means standard input or standard output."""

_WILD = frozenset("*?[")

# And .shc itself, which Pillow reads where the plugin is registered.
_NO_PICTURES = BY_OTHER_PROGRAMS | {"SHC"}


@dataclass(frozen=True)
class Input:
    """An input file.

    Attributes:
        path: its name, or `STDIO`.
        root: the named folder below which it was found; None if it was named itself.
        listed: whether it was found by a folder or a pattern, so that nobody has seen its name.
    """

    path: str
    root: str | None = None
    listed: bool = False


def is_picture(name: str) -> bool:
    """Whether a name has a suffix of a kind of picture that Pillow reads; .shc is none."""
    return os.path.splitext(name)[1].lower() in _picture_suffixes()


def is_shc(name: str) -> bool:
    """Whether a name has the suffix .shc."""
    return name.lower().endswith(".shc")


def is_several(path: str) -> bool:
    """Whether a name stands for any number of files: a folder, or a pattern (unless there is a file of that name)."""
    return os.path.isdir(path) or _is_pattern(path)


def check_names(paths: Sequence[str]) -> None:
    """Make sure that every name can be that of a file, and none is a number that was meant as an option's value.

    Raises:
        UsageError: a name is empty, as that of an unset variable is; or a number, and there is no such file.
    """
    for path in paths:
        if not path:
            raise UsageError("an empty name is none of a file")
        if re.fullmatch(r"[+-]?\d+([.,]\d+)?(%|dB|[kM]?B?)", path, re.IGNORECASE) and not os.path.lexists(path):
            raise UsageError(f"there is no file {path}; a number goes right after its option, as in --beta 80")


def gather(paths: Sequence[str], fits: Callable[[str], bool]) -> tuple[list[Input], list[str]]:
    """Find the files that names stand for.

    A folder stands for the files below it that fit, sorted; hidden ones and folders behind symbolic links are left out.
    A pattern stands for what it matches as if that had been named; "**" goes through folders itself, so with it only
    files count, and the place of each is kept as it is below a named folder.

    Args:
        paths: as the user gave them.
        fits: whether a file in a folder is meant, by its name.

    Returns:
        The files, and a line about each folder that has none or cannot be read.
    """
    found: list[Input] = []
    problems: list[str] = []
    for path in paths:
        if _is_pattern(path):
            for match in _matches(path):
                found += _below(match.path, fits, problems) if os.path.isdir(match.path) else [match]
        elif os.path.isdir(path):
            found += _below(path, fits, problems)
        else:
            found.append(Input(path))
    # What a folder and a pattern both find counts once; a file named twice is a mistake, which `plan` reports.
    named = {os.path.abspath(file.path) for file in found if not file.listed}
    once = {os.path.abspath(file.path) for file in found if file.listed} - named
    kept = []
    for file in found:
        place = os.path.abspath(file.path)
        if not file.listed or place in once:
            kept.append(file)
            once.discard(place)
    return kept, problems


def gather_shc(paths: Sequence[str]) -> tuple[list[Input], list[str]]:
    """Return the .shc files that names stand for; see `gather`.

    Raises:
        UsageError: "-" among several, or a number.
    """
    check_names(paths)
    if STDIO in paths and len(paths) > 1:
        raise UsageError("- (standard input) goes alone")
    return gather(paths, is_shc)


def _below(folder: str, fits: Callable[[str], bool], problems: list[str]) -> list[Input]:
    """Return the files below a folder; lines about what is wrong go to `problems`."""
    found: list[Input] = []
    unreadable: list[OSError] = []
    places = [folder]  # not os.walk, which calls itself for every folder inside a folder: there is an end to that
    while places:
        place = places.pop()
        try:
            with os.scandir(place) as opened:
                entries = sorted((entry for entry in opened if not entry.name.startswith(".")), key=lambda e: e.name)
        except OSError as error:
            unreadable.append(error)
            continue
        places += [entry.path for entry in reversed(entries) if entry.is_dir(follow_symlinks=False)]
        for entry in entries:
            # Neither devices nor pipes, which might never end; a link that leads nowhere is worth an error.
            if fits(entry.name) and (os.path.isfile(entry.path) or not os.path.exists(entry.path)):
                found.append(Input(entry.path, root=folder, listed=True))
    problems += map(one_line, unreadable)
    if not found and not unreadable:
        what = ".shc files" if fits is is_shc else "pictures"
        problems.append(f"{shown(folder)}: no {what} in this folder")
    return found


def _is_pattern(path: str) -> bool:
    return not _WILD.isdisjoint(path) and not os.path.lexists(path)


def _matches(pattern: str) -> Iterator[Input]:
    """Yield what a pattern matches, sorted; the pattern itself if that is nothing, which is reported as missing."""
    parts = Path(pattern).parts
    fixed = next(number for number, part in enumerate(parts) if not _WILD.isdisjoint(part))
    recursive = "**" in parts[fixed:]
    wanted = [*parts[fixed:], "*"] if parts[-1] == "**" else parts[fixed:]
    base = Path(*parts[:fixed])
    try:
        # Not the module glob: its "**" goes round in circles through symbolic links.
        paths = sorted(path for path in base.glob(os.path.join(*wanted)) if not recursive or path.is_file())
    except (OSError, ValueError):  # a pattern that pathlib does not take, such as "a**"
        paths = []
    hidden = {part for part in wanted if part.startswith(".")}
    seen = [path for path in paths if not _is_hidden(path.relative_to(base), hidden)]
    for path in seen:
        yield Input(str(path), root=str(base) if recursive else None, listed=True)
    if not seen:
        yield Input(pattern)


def _is_hidden(path: Path, wanted: set[str]) -> bool:
    """Whether a part of a path is hidden; if the pattern asks for hidden names, none is."""
    return not wanted and any(part.startswith(".") for part in path.parts)


@functools.cache
def _picture_suffixes() -> frozenset[str]:
    """Return the suffixes of pictures that Pillow reads by itself. Needs PIL: to be called for folders alone."""
    from PIL import Image

    kinds = Image.registered_extensions()
    return frozenset(suffix for suffix, kind in kinds.items() if kind in Image.OPEN and kind not in _NO_PICTURES)
