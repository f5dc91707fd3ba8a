"""How long work tells how far it is."""

from __future__ import annotations

from collections.abc import Callable

Report = Callable[[str, int, int], None]
"""Told what is being done, and how many steps of it are done and how many there are."""


def unheard(what: str, done: int, total: int) -> None:
    """Take the steps that nobody watches."""
