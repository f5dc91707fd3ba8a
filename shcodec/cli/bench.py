"""`shc bench`: shc beside other codecs, on real files."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any

import click
from click.exceptions import Exit

from shcodec.cli.console import note, print_json
from shcodec.cli.options import with_threads
from shcodec.support.errors import UsageError
from shcodec.support.progress import is_terminal
from shcodec.support.text import shown


@click.command(
    short_help="Measure shc beside other codecs.",
    epilog="""\b
Examples:
  shc bench --dataset kodak --data-root pictures
  shc bench --dataset holiday --codecs shc,jpeg420 --betas 15,50,150
  shc bench --dataset kodak --out results --resume
  shc bench --dataset kodak --published --update-cards""",
)
@click.option("--dataset", required=True, metavar="NAME|FOLDER", help="kodak, b100, urban100, or a folder of pictures.")
@click.option(
    "--data-root",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder that holds the named sets.  [default: SHC_DATA, then a cache filled from the sets' public homes]",
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for results and plots.  [default: bench-NAME]",
)
@click.option("--betas", metavar="F,F,...", help="Settings of shc, each 2 to 4096.")
@click.option(
    "--qualities",
    metavar="Q,Q,...",
    help="Settings, each 0 to 100, of shc, JPEG, WebP and AVIF alike; the others keep theirs.",
)
@click.option(
    "--codecs",
    metavar="NAME,...",
    help="Codecs to measure; shc stands for every model, shc-fast-e4 for the model fast with effort 4.  [default: all]",
)
@click.option("--anchor", metavar="NAME,...", help="Codecs to compare the others with.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Measure only the first N pictures.")
@click.option(
    "-j", "--jobs", type=click.IntRange(min=1), default=1, show_default=True, help="Processes; only 1 records times."
)
@click.option(
    "--repeat", type=click.IntRange(min=1), default=1, show_default=True, help="Time each coding N times: the median."
)
@click.option("--process-times", is_flag=True, help="Time whole processes of shc as well.")
@click.option("--published", is_flag=True, help="Lay the published curves of other learned codecs into the plots.")
@click.option(
    "--crops",
    type=click.IntRange(min=0),
    default=3,
    show_default=True,
    metavar="N",
    help="Show crops of N pictures in the HTML page.",
)
@click.option("--update-cards", is_flag=True, help="Write the results into the cards of the models that were run.")
@click.option("--resume", is_flag=True, help="Keep what an interrupted run has measured.")
@click.option("-f", "--force", is_flag=True, help="Overwrite the results that are there.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@with_threads
def command(
    dataset: str,
    out: Path | None,
    betas: str | None,
    qualities: str | None,
    codecs: str | None,
    anchor: str | None,
    update_cards: bool,
    as_json: bool,
    **switches: Any,
) -> None:
    """Measure shc beside other codecs: whole files, their sizes, quality and times.

    Writes tables (CSV, JSON), rate-distortion plots and an HTML page with crops, and prints a summary.
    """
    from shcodec import bench
    from shcodec.bench.codecs import DEFAULT_BETAS
    from shcodec.bench.datasets import BENCHMARKS
    from shcodec.bench.report import to_json
    from shcodec.bench.tables import print_report

    if betas is not None and qualities is not None:
        raise UsageError("--betas and --qualities exclude each other")
    options = bench.Options(
        codecs=_names(codecs),
        betas=DEFAULT_BETAS if betas is None else _numbers(betas),
        qualities=None if qualities is None else _numbers(qualities),
        anchors=_names(anchor),
        command=shown(shlex.join(["shc", *sys.argv[1:]])),
        progress=is_terminal(sys.stderr),
        notify=note,
        **switches,
    )
    if update_cards and (dataset not in BENCHMARKS or options.limit is not None):
        raise UsageError(f"--update-cards needs a whole set: {', '.join(BENCHMARKS)}, without --limit")
    if update_cards and qualities is not None:
        raise UsageError("--update-cards goes with --betas: cards tell those")
    found = bench.run(dataset, out or Path(f"bench-{Path(dataset).resolve().name}"), options)
    if as_json:
        print_json(to_json(found))
    else:
        from rich.console import Console

        print_report(found, Console())
    if update_cards:
        from shcodec.bench.card import update_cards as write_cards

        for path in write_cards(found):
            note(f"{shown(path)}: updated")
    if found.failures:
        raise Exit(1)


def _names(text: str | None) -> tuple[str, ...] | None:
    """Return the names in a list with commas."""
    return None if text is None else tuple(name.strip() for name in text.split(",") if name.strip())


def _numbers(text: str) -> tuple[float, ...]:
    """Return the numbers in a list with commas."""
    try:
        return tuple(float(number) for number in text.split(","))
    except ValueError as error:
        raise UsageError(f"'{text}' is not a list of numbers such as 15,50,150") from error
