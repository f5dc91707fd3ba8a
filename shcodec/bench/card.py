"""Writes what was measured into the cards of the models, so that no figure in a card is typed by hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from shcodec.bench.codecs import SHC_PREFIX
from shcodec.bench.curves import CodecCurve
from shcodec.bench.report import Report
from shcodec.model import zoo
from shcodec.model.card import CARD
from shcodec.support.atomic import write_text
from shcodec.support.errors import UsageError


def update_cards(report: Report) -> list[Path]:
    """Put the results of every model that was run into its card, as the table `measured.DATASET`.

    Args:
        report: results over a whole published set.

    Returns:
        The cards written.

    Raises:
        UsageError: if not all pictures of a published set were measured; no card is written then.
        ModelError: if a card cannot be read.
        OSError: if a card cannot be written.
    """
    import tomli_w

    models = {SHC_PREFIX + name for name in zoo.model_names()}
    curves = [curve for curve in report.curves if curve.codec in models]  # not those of other efforts
    _check(report, curves)
    written = []
    for curve in curves:
        name = curve.codec.removeprefix(SHC_PREFIX)
        card = zoo.card(name)
        card.setdefault("measured", {})[report.dataset] = _figures(report, curve)
        path = zoo.model_dir(name) / CARD
        write_text(path, tomli_w.dumps(card))
        written.append(path)
    return written


def _check(report: Report, curves: Sequence[CodecCurve]) -> None:
    if not report.is_benchmark:
        raise UsageError(f"a card tells of published sets, and {report.dataset} is none")
    if not curves:
        raise UsageError("no model was measured, so there is no card to update")
    for curve in curves:
        if len(curve.images) != report.total:
            raise UsageError(
                f"a card tells of whole sets; {curve.codec} was measured on {len(curve.images)} of "
                f"{report.total} pictures"
            )


def _figures(report: Report, curve: CodecCurve) -> dict[str, Any]:
    """Collect the figures of one model, rounded to the digits that matter."""
    against = {
        f"{comparison.measure}_against_{comparison.anchor}": round(comparison.mean_curve.percent, 2)
        for comparison in report.comparisons
        if comparison.codec == curve.codec and comparison.mean_curve is not None
    }
    return {
        "command": report.environment.get("command", ""),
        "images": len(curve.images),
        "beta": [point.setting for point in curve.points],
        "bpp": [round(point.bpp, 4) for point in curve.points],
        "psnr_db": [round(point.psnr, 3) for point in curve.points],
        "ms_ssim_db": [round(point.ms_ssim_db, 3) for point in curve.points if point.ms_ssim_db is not None],
        "bd_rate_percent": against,
    }
