"""The option -q, --quality: a number from 0 to 100."""

from __future__ import annotations

import click


def parse_quality(ctx: click.Context, option: click.Parameter, text: str | None) -> float | None:
    """Return the number; whoever meant the other option that could be called -q is told its name."""
    if text is None:
        return None
    try:
        quality = float(text)
    except ValueError:
        raise click.BadParameter(f"'{text}' is not a number from 0 to 100 (fewer words: --quiet)") from None
    if not 0 <= quality <= 100:
        raise click.BadParameter(f"{text} is not from 0 to 100")
    return quality
