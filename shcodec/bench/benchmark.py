"""A whole run: find the pictures and codecs, measure, and write what was found."""

from __future__ import annotations

import importlib.util
import json
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from shcodec.bench import crops, literature, measuring, page, plots, report
from shcodec.bench.cells import MEASURED, STORED, Cell, Failure, read_csv, stored_cells, write_csv
from shcodec.bench.codecs import DEFAULT_BETAS, SHC_PREFIX, Codec, select_codecs
from shcodec.bench.crops import Viewer
from shcodec.bench.curves import MEASURES, CodecCurve, Comparison, build_curves, compare
from shcodec.bench.datasets import Dataset, PictureFile, check_name, find_dataset
from shcodec.bench.report import CodecInfo, Report
from shcodec.codec.quality import beta_of
from shcodec.container import beta_to_byte
from shcodec.support.atomic import write_text
from shcodec.support.errors import MissingExtraError, ShcError, UsageError
from shcodec.support.progress import counting_bar

DEFAULT_ANCHORS = ("jpeg420", "bpg444")
"""Codecs that the others are compared with unless told otherwise, where they are among the results."""

DEFAULT_CROPS = 3
"""Pictures of which the page shows crops."""

_EXTRA_MODULES = ("matplotlib", "platformdirs", "pooch", "pytorch_msssim", "scipy", "skimage", "tomli_w", "torch")


@dataclass(frozen=True)
class Options:
    """What a run does besides measuring all codecs on all pictures.

    Attributes:
        data_root: folder that holds the named sets; if None, that of the environment's SHC_DATA, then the user's cache,
            into which a set that is nowhere is downloaded.
        codecs: names of codecs, `shc` for every shipped model; None means all.
        betas: settings of shc, each in 2..4096.
        qualities: settings, each in 0..100, of shc and of the other codecs that have qualities, in place of their own.
        anchors: codecs to compare with, added to `codecs` where missing; None means `DEFAULT_ANCHORS`.
        limit: measure only the first pictures of the set.
        jobs: processes; seconds are not recorded with more than one.
        repeat: how often each cell is timed; seconds are the medians.
        process_times: time whole processes of shc as well.
        published: lay the published curves of other learned codecs into the plots.
        crops: pictures of which the page shows crops; 0 for none.
        resume: keep the cells of an interrupted run.
        force: overwrite the results that are there.
        command: the command line, to be recorded.
        progress: draw progress bars on stderr.
        notify: called with one line on what a user should know while the run goes on.
    """

    data_root: Path | None = None
    codecs: Sequence[str] | None = None
    betas: Sequence[float] = DEFAULT_BETAS
    qualities: Sequence[float] | None = None
    anchors: Sequence[str] | None = None
    limit: int | None = None
    jobs: int = 1
    repeat: int = 1
    process_times: bool = False
    published: bool = False
    crops: int = DEFAULT_CROPS
    resume: bool = False
    force: bool = False
    command: str = ""
    progress: bool = False
    notify: Callable[[str], None] = lambda text: None


def run(dataset: str, out: Path, options: Options | None = None) -> Report:
    """Measure codecs on a set of pictures; write tables, plots and a page that shows them.

    Args:
        dataset: `kodak`, `b100`, `urban100`, or a folder of pictures.
        out: folder for the results, made if it does not exist.
        options: see `Options`.

    Raises:
        UsageError: if an argument is wrong, or results are in `out` and neither `resume` nor `force` is given.
        MissingExtraError: if the extra `bench` is not installed.
        OSError: if `out` cannot be written; this is tried before any work.
    """
    options = options or Options()
    _check(options)
    _require_extra()
    check_name(dataset)
    published = literature.load(dataset) if options.published else ()
    wanted = None if options.codecs is None else [*options.codecs, *(options.anchors or ())]
    chosen = select_codecs(wanted, options.betas, options.qualities)
    _prepare_folder(out, resume=options.resume, force=options.force)

    pictures = find_dataset(dataset, options.data_root, progress=options.progress, notify=options.notify)
    pictures = pictures.first(options.limit)
    readable, unreadable = measuring.check_pictures(pictures.pictures)
    survey = _survey(chosen, pictures, readable)
    done = _kept_cells(out, pictures, readable, survey, options) if options.resume else []
    write_csv(out / "results.csv", done)
    # Until the run is complete, results.json holds just what a resumed run must know.
    _write_json(out, {"dataset": pictures.name, "codecs": [asdict(info) for info in survey.infos], "complete": False})
    if published and len(readable) != pictures.total:
        survey = survey.without(
            "published curves", f"means over {pictures.total} pictures, and {len(readable)} are here"
        )
        published = ()
    cells, viewers, failed = _measure(out / "results.csv", readable, survey, done, options)
    cells = sorted([*cells, *survey.stored], key=lambda c: (survey.order.index(c.codec), c.image, c.setting))
    curves = build_curves(cells, survey.order)
    result = Report(
        dataset=pictures.name,
        title=pictures.title,
        images=len(readable),
        total=pictures.total,
        is_benchmark=pictures.is_benchmark,
        codecs=survey.infos,
        unavailable=survey.unavailable,
        curves=curves,
        comparisons=_compare(curves, DEFAULT_ANCHORS if options.anchors is None else options.anchors),
        failures=(*unreadable, *failed),
        published=published,
        environment={**report.describe_environment(options.command), "repeat": options.repeat, "jobs": options.jobs},
    )
    write_csv(out / "results.csv", cells)
    _write_report(result, viewers, out)
    return result


@dataclass(frozen=True)
class _Survey:
    """Which codecs can be run here, which have stored measurements, and which neither."""

    ready: tuple[Codec, ...]
    infos: tuple[CodecInfo, ...]
    stored: tuple[Cell, ...]
    unavailable: Mapping[str, str]

    @property
    def order(self) -> tuple[str, ...]:
        """Names of the codecs with results, in the order of tables."""
        return tuple(info.name for info in self.infos)

    def without(self, what: str, reason: str) -> _Survey:
        """Add something that cannot be shown."""
        return replace(self, unavailable={**self.unavailable, what: reason})


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
    out: Path, pictures: Dataset, readable: Iterable[PictureFile], survey: _Survey, options: Options
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
    cells = [cell for cell in read_csv(table) if cell.source == MEASURED]
    _refuse_to_drop(out, cells, pictures, [*survey.order, *survey.unavailable])
    same = {info.name: info for info in survey.infos if versions.get(info.name) == (info.description, info.version)}
    names = {picture.name for picture in readable}
    return [
        cell
        for cell in cells
        if cell.image in names
        and cell.codec in same
        and cell.setting in same[cell.codec].settings
        and not (options.process_times and cell.codec.startswith(SHC_PREFIX) and cell.enc_process_s is None)
    ]


def _refuse_to_drop(out: Path, cells: Iterable[Cell], pictures: Dataset, codecs: Sequence[str]) -> None:
    """Protect what was measured from a run that resumes with fewer codecs or pictures."""
    names = {picture.name for picture in pictures.pictures}
    for cell in cells:
        if cell.codec not in codecs or cell.image not in names:
            raise UsageError(
                f"{out} holds results of {cell.codec} for {cell.image}, which this run leaves out and would drop: "
                "resume with the same codecs and pictures, or choose another folder"
            )


def _measure(
    table: Path, readable: Sequence[PictureFile], survey: _Survey, done: Sequence[Cell], options: Options
) -> tuple[list[Cell], list[Viewer], list[Failure]]:
    """Measure what is not done, then make the crops; returns all measured cells, the crops, and what failed."""
    tasks = measuring.plan(
        readable,
        survey.ready,
        done,
        repeat=options.repeat,
        timed=options.jobs == 1,
        process_times=options.process_times,
    )
    shown = crops.choose_pictures(readable, options.crops)
    steps = len(tasks) + len(shown) * len(survey.ready)
    with counting_bar(steps, "measuring", shown=options.progress) as advance:
        cells, failures = measuring.measure_all(tasks, table, jobs=options.jobs, on_done=advance)
        cells = [*done, *cells]
        viewers: list[Viewer] = []
        for picture in shown:
            own = [cell for cell in cells if cell.image == picture.name]
            viewer, failed = crops.make_viewer(picture, survey.ready, own, on_done=advance)
            viewers.append(viewer)
            failures.extend(failed)
    return cells, viewers, failures


def _compare(curves: Sequence[CodecCurve], anchors: Iterable[str]) -> tuple[Comparison, ...]:
    by_name = {curve.codec: curve for curve in curves}
    return tuple(
        compare(curve, by_name[anchor], measure)
        for anchor in dict.fromkeys(anchors)
        if anchor in by_name
        for measure in MEASURES
        for curve in curves
        if curve.codec != anchor
    )


def _check(options: Options) -> None:
    for beta in options.betas:
        beta_to_byte(beta)
    for quality in options.qualities or ():
        beta_of(quality)
    for name in ("limit", "jobs", "repeat"):
        number = getattr(options, name)
        if number is not None and number < 1:
            raise UsageError(f"--{name} must be at least 1, not {number}")
    if options.crops < 0:
        raise UsageError(f"--crops must be at least 0, not {options.crops}")
    if options.process_times and options.jobs > 1:
        raise UsageError("--process-times needs --jobs 1: processes beside each other would not tell their times")
    if options.published and options.limit is not None:
        raise UsageError("--published goes without --limit: the published curves are means over whole sets")


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


def _write_report(result: Report, viewers: Sequence[Viewer], out: Path) -> None:
    write_text(out / "curves.csv", report.curves_csv(result))
    figures = plots.draw(result)
    plots.write_png(figures, out)
    write_text(out / "report.html", page.render(result, figures, viewers))
    # Last, since it says that the run is complete.
    _write_json(out, {**report.to_json(result), "complete": True})


def _write_json(out: Path, document: Mapping[str, Any]) -> None:
    write_text(out / "results.json", report.json_text(document))
