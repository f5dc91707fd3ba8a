"""The option -q, --quality: a number from 0 to 100."""

from __future__ import annotations

from typing import Any

import click


class Quality(click.ParamType):
    """A number from 0 to 100."""

    name = "quality"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The number; whoever meant the other option that could be called -q is told its name."""
        try:
            quality = float(value)
        except ValueError:
            self.fail(f"'{value}' is not a number from 0 to 100 (fewer words: --quiet)", param, ctx)
        if not 0 <= quality <= 100:
            self.fail(f"{value} is not from 0 to 100", param, ctx)
        return quality


QUALITY = Quality()
