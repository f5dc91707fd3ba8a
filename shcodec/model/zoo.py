"""The shipped models: finding them, checking them, and their ids.

A model is a folder with a card (model.toml). Folders are looked for in ``SHC_MODELS`` (a folder of model
folders), in the installed package, and in a checkout's ``models/``, in that order.
"""

from __future__ import annotations

import functools
import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shcodec.model.card import CARD, pins, read_card
from shcodec.support.errors import ModelError, ShcError, UnknownModelError

if TYPE_CHECKING:
    from shcodec.model.networks import Model

DEFAULT_MODEL = "fast"


def _folders() -> list[Path]:
    here = Path(__file__).resolve().parent.parent
    named = os.environ.get("SHC_MODELS")
    roots = [Path(named)] if named else []
    roots.append(here / "_models" if (here / "_models").is_dir() else here.parent / "models")
    return [path.parent for root in roots for path in sorted(root.glob(f"*/{CARD}"))]


def model_names() -> list[str]:
    """Return the names of all models that are installed, the default first."""
    names = dict.fromkeys(folder.name for folder in _folders())
    return sorted(names, key=lambda name: (name != DEFAULT_MODEL, name))


def model_dir(name: str) -> Path:
    """Return the folder of a model.

    Raises:
        UnknownModelError: there is none of that name.
    """
    for folder in _folders():
        if folder.name == name:
            return folder
    known = ", ".join(model_names()) or "none"
    raise UnknownModelError(f"no model named '{name}' is installed (installed: {known})")


def card(name: str) -> dict[str, Any]:
    """Return the card of a model: ids, data, training, measured results."""
    return read_card(model_dir(name))


def load(name: str) -> Model:
    """Return a model by name; loaded once and kept."""
    return _load_now(model_dir(name))


def _load_now(folder: Path) -> Model:
    from shcodec.model.networks import threads_wanted  # not at the start: `shc info` needs no numpy

    return _load(folder, _changed(folder), threads_wanted())


@functools.lru_cache(maxsize=4)
def _load(folder: Path, changed: int, threads: int) -> Model:
    """Return a model, loaded again when its card's time of change or the number of threads is another."""
    from shcodec.model.networks import Model

    return Model(folder, threads=threads)


def name_of(model_id: bytes) -> str | None:
    """Return the name of the installed model of this id, by the cards alone; None if there is none."""
    folder = _folder_of(model_id)
    return None if folder is None else folder.name


def _folder_of(model_id: bytes) -> Path | None:
    for folder in _folders():
        if _id_in_card(folder, _changed(folder)) == model_id.hex():
            return folder
    return None


def _changed(folder: Path) -> int:
    """Return the time of change of a model's card, which is written last, in nanoseconds."""
    return (folder / CARD).stat().st_mtime_ns


@functools.lru_cache(maxsize=256)
def _id_in_card(folder: Path, changed: int) -> str | None:
    """Return the id that a card names; read again when the card's time of change is another."""
    try:
        return str(read_card(folder).get("id"))
    except ModelError:
        return None


def load_by_id(model_id: bytes) -> Model:
    """Return the model that a file names.

    Raises:
        UnknownModelError: it is not installed.
    """
    folder = _folder_of(model_id)  # not by name: the same name may stand for another model further up the search
    if folder is None:
        raise UnknownModelError(f"the file needs the model with id {model_id.hex()}, which is not installed")
    return _load_now(folder)


def verify(name: str) -> list[str]:
    """Compare every file of a model with the SHA-256 in its card, and the weights with its id.

    Returns:
        Problems, one line each; empty if all is well.
    """
    folder = model_dir(name)
    problems = []
    try:
        listed = pins(folder, read_card(folder))
    except ModelError as error:
        return [str(error)]
    for path in sorted(folder.iterdir()):
        if path.name != CARD and path.name not in listed:
            problems.append(f"{path}: not listed in the card")
    for file, expected in listed.items():
        path = folder / file
        if not path.is_file():
            problems.append(f"{path}: missing model file")
        elif hashlib.sha256(path.read_bytes()).hexdigest() != expected:
            problems.append(f"{path}: does not match the SHA-256 in the card")
    if not problems:
        from shcodec.model.networks import Model

        try:
            Model(folder).open_networks()
        except ShcError as error:
            problems.append(str(error))
    return problems
