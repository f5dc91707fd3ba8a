"""How hard the encoder tries: levels 0 to 9. Files of every level are read by the same decoder.

From level 4 on the latent is improved for the picture at hand; see `shcodec.codec.improvement`.
"""

from __future__ import annotations

import importlib.util
import operator
from dataclasses import dataclass

from shcodec.support.errors import MissingExtraError, UsageError

DEFAULT_EFFORT = 3


@dataclass(frozen=True)
class Effort:
    """One level.

    Attributes:
        level: 0 to 9.
        rounds: how often the decoded picture is analysed again.
        steps: of gradient descent after that.
        searches: whether rate weights are tried on the picture, and the price of a bit measured on it.
    """

    level: int
    rounds: int = 0
    steps: int = 0
    searches: bool = True

    @property
    def improves(self) -> bool:
        """Whether the latent is improved after the analysis."""
        return self.rounds > 0 or self.steps > 0


LEVELS = (
    Effort(0),  # the nearest codeword would take as long, and three times the bits
    Effort(1),
    Effort(2),
    Effort(3),
    Effort(4, rounds=1, searches=False),
    Effort(5, rounds=2, searches=False),
    Effort(6, rounds=4),
    Effort(7, rounds=4, steps=100),
    Effort(8, rounds=4, steps=400),
    Effort(9, rounds=4, steps=1500),
)


def effort_of(level: int | None) -> Effort:
    """Return the effort of a level; None is the default.

    Raises:
        UsageError: there is no such level, or it is not a whole number.
        MissingExtraError: the level needs torch, which is not installed.
    """
    try:
        level = DEFAULT_EFFORT if level is None else operator.index(level)
    except TypeError:
        raise UsageError(f"the effort must be a whole number, not {level!r}") from None
    if not 0 <= level < len(LEVELS):
        raise UsageError(f"the effort must be from 0 to {len(LEVELS) - 1}, not {level}")
    if LEVELS[level].steps and importlib.util.find_spec("torch") is None:
        raise MissingExtraError(f"shc encode --effort {level} needs the extra 'train': pip install 'shcodec[train]'")
    return LEVELS[level]
