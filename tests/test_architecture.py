"""ARCHITECTURE.md names what is there, and leaves out no room."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path

from conftest import ROOT

PACKAGE = ROOT / "shcodec"
TEXT = (resources.files("shcodec") / "ARCHITECTURE.md").read_text(encoding="utf-8")
ROOMS = sorted(path.parent.relative_to(PACKAGE) for path in PACKAGE.rglob("__init__.py"))
TOP = [str(room) for room in ROOMS if len(room.parts) == 1]


def is_there(name: str) -> bool:
    """Tell whether a dotted name is a module or a package."""
    path = PACKAGE / name.replace(".", "/")
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


def test_modules_that_are_named_exist() -> None:
    named = set(re.findall(rf"\b((?:{'|'.join(TOP)})(?:\.[a-z_]+)+)\b", TEXT))
    assert len(named) > 25
    assert [name for name in sorted(named) if not is_there(name)] == []


def test_modules_of_a_room_are_where_its_paragraph_says() -> None:
    paragraphs = re.findall(r"^\*\*([a-z_, ]+)\.\*\* (.*?)\n\n", TEXT, re.MULTILINE | re.DOTALL)
    seen = set()
    for rooms, text in paragraphs:
        names = [room.strip() for room in rooms.split(",")]
        seen |= set(names)
        for name in re.findall(r"`([a-z_]+)`", text):
            assert any(is_there(f"{room}.{name}") for room in names), f"{rooms}: no module {name}"
    assert seen == set(TOP)


def test_every_room_is_named() -> None:
    missing = [room for room in ROOMS if room != Path() and not re.search(rf"\b{room.name}\b", TEXT)]
    assert missing == []


def test_files_and_links_exist() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", TEXT)
    assert links
    assert [link for link in links if not (PACKAGE / link).exists()] == []
