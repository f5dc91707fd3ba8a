"""A whole run: find the pictures and codecs, measure, and write what was found."""

from __future__ import annotations

import importlib.util
import json
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from shcodec.bench import plots, report, runner, summary
from shcodec.bench.codecs import DEFAULT_BETAS, Codec, select_codecs
from shcodec.bench.datasets import Dataset, PictureFile, find_dataset
from shcodec.bench.report import CodecInfo, Report
from shcodec.bench.results import MEASURED, STORED, Cell, read_csv, stored_cells, write_atomically, write_csv
from shcodec.bench.summary import CodecCurve, Comparison
from shcodec.container import beta_to_byte
from shcodec.errors import MissingExtraError, ShcError, UsageError

DEFAULT_ANCHORS = ("jpeg420", "bpg444")
"""Codecs that the others are compared with unless told otherwise, where they are among the results."""

_EXTRA_MODULES = ("matplotlib", "pytorch_msssim", "scipy", "skimage", "torch")


def run(
    dataset: str,
    out: Path,
    *,
    data_root: Path | None = None,
    codecs: Sequence[str] | None = None,
    betas: Sequence[float] = DEFAULT_BETAS,
    anchors: Sequence[str] | None = None,
    limit: int | None = None,
    jobs: int = 1,
    repeat: int = 1,
    resume: bool = False,
    force: bool = False,
    command: str = "",
    progress: bool = False,
) -> Report:
    """Measure codecs on a set of pictures; write results.csv, results.json, curves.csv and plots.

    Args:
        dataset: `kodak`, `b100`, `urban100`, or a folder of pictures.
        out: folder for the results, made if it does not exist.
        data_root: folder that holds the named sets; the environment's SHC_DATA if None.
        codecs: names of codecs, `shc` for every shipped model; None means all.
        betas: settings of shc, each in 2..4096.
        anchors: codecs to compare with, added to `codecs` where missing; None means `DEFAULT_ANCHORS`.
        limit: measure only the first pictures of the set.
        jobs: processes; seconds are not recorded with more than one.
        repeat: how often each cell is timed; seconds are the medians.
        resume: keep the cells of an interrupted run in `out`.
        force: overwrite the results in `out`.
        command: the command line, to be recorded.
        progress: draw a progress bar on stderr.

    Raises:
        UsageError: if an argument is wrong, or results are in `out` and neither `resume` nor `force` is given.
        MissingExtraError: if the extra `bench` is not installed.
        OSError: if `out` cannot be written; this is tried before any work.
    """
    _check_arguments(betas, limit=limit, jobs=jobs, repeat=repeat)
    _require_extra()
    pictures = find_dataset(dataset, data_root).first(limit)
    wanted = None if codecs is None else [*codecs, *(anchors or ())]
    chosen = select_codecs(wanted, betas)
    _prepare_folder(out, resume=resume, force=force)

    readable, failures = runner.check_pictures(pictures.pictures)
    survey = _survey(chosen, pictures, readable)
    table = out / "results.csv"
    done = _kept_cells(out, pictures, readable, survey.infos) if resume else []
    write_csv(table, done)
    # Until the run is complete, results.json holds just what a resumed run must know.
    _write_json(out, {"dataset": pictures.name, "codecs": [asdict(info) for info in survey.infos], "complete": False})

    tasks = runner.plan(readable, survey.ready, done, repeat=repeat, timed=jobs == 1)
    with _progress_bar(len(tasks), progress) as advance:
        cells, failed = runner.measure_all(tasks, table, jobs=jobs, on_done=advance)

    order = [info.name for info in survey.infos]
    everything = sorted([*done, *cells, *survey.stored], key=lambda c: (order.index(c.codec), c.image, c.setting))
    curves = summary.build_curves(everything, order)
    result = Report(
        dataset=pictures.name,
        title=pictures.title,
        images=len(readable),
        total=pictures.total,
        codecs=survey.infos,
        unavailable=survey.unavailable,
        curves=curves,
        comparisons=_compare(curves, DEFAULT_ANCHORS if anchors is None else anchors),
        failures=(*failures, *failed),
        environment={**report.describe_environment(command), "repeat": repeat, "jobs": jobs},
    )
    write_csv(table, everything)
    _write_report(result, out)
    return result


@dataclass(frozen=True)
class _Survey:
    """Which codecs can be run here, which have stored measurements, and which neither."""

    ready: tuple[Codec, ...]
    infos: tuple[CodecInfo, ...]
    stored: tuple[Cell, ...]
    unavailable: Mapping[str, str]


def _survey(codecs: Iterable[Codec], pictures: Dataset, readable: Iterable[PictureFile]) -> _Survey:
    ready: list[Codec] = []
    infos: list[CodecInfo] = []
    stored: list[Cell] = []
    unavailable: dict[str, str] = {}
    names = [picture.name for picture in readable]
    for codec in codecs:
        try:
            version = codec.version()
        except ShcError as error:
            cells = stored_cells(pictures.name, codec.name, names) if pictures.is_benchmark else []
            if not cells:
                unavailable[codec.name] = str(error)
                continue
            stored.extend(cells)
            settings = tuple(sorted({cell.setting for cell in cells}))
            infos.append(CodecInfo(codec.name, codec.describe(), f"stored, since {error}", settings, STORED))
        else:
            ready.append(codec)
            infos.append(CodecInfo(codec.name, codec.describe(), version, tuple(codec.settings), MEASURED))
    return _Survey(tuple(ready), tuple(infos), tuple(stored), unavailable)


def _kept_cells(
    out: Path, pictures: Dataset, readable: Iterable[PictureFile], infos: Iterable[CodecInfo]
) -> list[Cell]:
    """Read the cells that an earlier run finished; those of a codec that has changed since are measured again."""
    table, document = out / "results.csv", out / "results.json"
    if not table.exists() or not document.exists():
        return []
    try:
        earlier = json.loads(document.read_text(encoding="utf-8"))
        dataset = earlier["dataset"]
        versions = {codec["name"]: (codec["description"], codec["version"]) for codec in earlier["codecs"]}
    except (ValueError, KeyError, TypeError) as error:
        raise ShcError(f"{document} cannot be read: run without --resume, or into another folder") from error
    if dataset != pictures.name:
        raise UsageError(f"{out} holds results for {dataset}, not {pictures.name}: choose another folder")
    same = {info.name: info for info in infos if versions.get(info.name) == (info.description, info.version)}
    names = {picture.name for picture in readable}
    return [
        cell
        for cell in read_csv(table)
        if cell.source == MEASURED
        and cell.image in names
        and cell.codec in same
        and cell.setting in same[cell.codec].settings
    ]


def _compare(curves: Sequence[CodecCurve], anchors: Iterable[str]) -> tuple[Comparison, ...]:
    by_name = {curve.codec: curve for curve in curves}
    return tuple(
        summary.compare(curve, by_name[anchor], measure)
        for anchor in dict.fromkeys(anchors)
        if anchor in by_name
        for measure in summary.MEASURES
        for curve in curves
        if curve.codec != anchor
    )


def _check_arguments(betas: Iterable[float], **numbers: int | None) -> None:
    for beta in betas:
        beta_to_byte(beta)
    for name, number in numbers.items():
        if number is not None and number < 1:
            raise UsageError(f"--{name} must be at least 1, not {number}")


def _require_extra() -> None:
    if any(importlib.util.find_spec(module) is None for module in _EXTRA_MODULES):
        raise MissingExtraError("shc bench needs the extra 'bench': pip install 'shcodec[bench]'")


def _prepare_folder(out: Path, *, resume: bool, force: bool) -> None:
    """Make the folder, and find out now whether it can be written."""
    if (out / "results.csv").exists() and not (resume or force):
        raise UsageError(f"{out} holds results already: give --resume to go on, -f to start anew, or another --out")
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=out):
        pass


def _write_report(result: Report, out: Path) -> None:
    write_atomically(out / "curves.csv", report.curves_csv(result))
    plots.write_plots(result, out)
    # Last, since it says that the run is complete.
    _write_json(out, {**report.to_json(result), "complete": True})


def _write_json(out: Path, document: Mapping[str, Any]) -> None:
    write_atomically(out / "results.json", report.json_text(document))


@contextmanager
def _progress_bar(total: int, shown: bool) -> Iterator[Callable[[], None]]:
    """Draw a bar with the time left on stderr; yields what to call after each cell."""
    if not shown or not total:
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("measuring"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=total)
        yield lambda: bar.advance(task)
