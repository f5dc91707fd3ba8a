"""`shc bench`: shc beside other codecs, on real files."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import click
from click.exceptions import Exit

from shcodec.cli.console import print_json
from shcodec.errors import UsageError


@click.command(
    short_help="Measure shc beside other codecs.",
    epilog="""\b
Examples:
  shc bench --dataset kodak --data-root pictures
  shc bench --dataset holiday --codecs shc,jpeg420 --betas 15,50,150
  shc bench --dataset kodak --out results --resume""",
)
@click.option("--dataset", required=True, metavar="NAME|FOLDER", help="kodak, b100, urban100, or a folder of pictures.")
@click.option(
    "--data-root",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder that holds the named sets.  [default: SHC_DATA of the environment]",
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for results and plots.  [default: bench-NAME]",
)
@click.option("--betas", metavar="F,F,...", help="Settings of shc, each 2 to 4096.")
@click.option("--codecs", metavar="NAME,...", help="Codecs to measure; shc stands for every model.  [default: all]")
@click.option("--anchor", metavar="NAME,...", help="Codecs to compare the others with.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Measure only the first N pictures.")
@click.option(
    "-j", "--jobs", type=click.IntRange(min=1), default=1, show_default=True, help="Processes; only 1 records times."
)
@click.option(
    "--repeat", type=click.IntRange(min=1), default=1, show_default=True, help="Time each coding N times: the median."
)
@click.option("--resume", is_flag=True, help="Keep what an interrupted run has measured.")
@click.option("-f", "--force", is_flag=True, help="Overwrite the results that are there.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def command(
    dataset: str,
    data_root: Path | None,
    out: Path | None,
    betas: str | None,
    codecs: str | None,
    anchor: str | None,
    limit: int | None,
    jobs: int,
    repeat: int,
    resume: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Measure shc beside other codecs: whole files, their sizes, quality and times.

    Writes tables (CSV, JSON) and rate-distortion plots, and prints a summary.
    """
    from shcodec import bench
    from shcodec.bench.codecs import DEFAULT_BETAS
    from shcodec.bench.report import print_report, to_json

    found = bench.run(
        dataset,
        out or Path(f"bench-{Path(dataset).resolve().name}"),
        data_root=data_root,
        codecs=_names(codecs),
        betas=DEFAULT_BETAS if betas is None else _numbers(betas),
        anchors=_names(anchor),
        limit=limit,
        jobs=jobs,
        repeat=repeat,
        resume=resume,
        force=force,
        command=shlex.join(["shc", *sys.argv[1:]]),
        progress=sys.stderr.isatty(),
    )
    if as_json:
        print_json(to_json(found))
    else:
        from rich.console import Console

        print_report(found, Console())
    if found.failures:
        raise Exit(1)


def _names(text: str | None) -> tuple[str, ...] | None:
    """The names in a list with commas."""
    return None if text is None else tuple(name.strip() for name in text.split(",") if name.strip())


def _numbers(text: str) -> tuple[float, ...]:
    """The numbers in a list with commas."""
    try:
        return tuple(float(number) for number in text.split(","))
    except ValueError as error:
        raise UsageError(f"'{text}' is not a list of numbers such as 15,50,150") from error
