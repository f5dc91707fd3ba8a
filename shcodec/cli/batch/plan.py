"""What a command is to do: which output belongs to which input, and what is left out."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from shcodec.cli.batch.files import Job, descriptor_of, is_stream, real_path
from shcodec.cli.batch.inputs import STDIO, Input, check_names, gather, is_picture, is_several, is_shc
from shcodec.support.errors import UsageError
from shcodec.support.progress import is_terminal
from shcodec.support.text import shown


@dataclass(frozen=True)
class Plan:
    """What a command is to do.

    Attributes:
        jobs: what can be done.
        problems: lines of error about what cannot.
        notes: lines about what was decided on the way.
        left_out: number of jobs that are done already.
        folder: where the outputs go, if that was said.
    """

    jobs: tuple[Job, ...]
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    left_out: int = 0
    folder: str | None = None


def plan(
    paths: Sequence[str],
    folder: str | None,
    suffix: str,
    is_output: Callable[[str], bool],
    fits: Callable[[str], bool],
) -> Plan:
    """Pair inputs with outputs.

    Exactly two paths of which the second is an output (`is_output`, a stream or "-") are one job, and so is one path
    with a `folder` that is a file or is called like one. Otherwise all are inputs, and the outputs lie beside them or
    in `folder`, under the same name with the suffix `suffix`; where that would be the same for several, under the whole
    name and the suffix. What was found below a named folder lies in `folder` as it lay in that. Outputs of an earlier
    call among the inputs are left out.

    Args:
        paths: as the user gave them.
        folder: where the outputs go; None is beside the inputs.
        suffix: of the outputs.
        is_output: whether the second of two names is that of the output.
        fits: whether a file in a named folder is an input.

    Raises:
        UsageError: "-" among several inputs, an output given together with a folder or for several inputs, an output
            that is a folder or another input, two inputs with the same output, or a word that is neither an input nor
            an output. Where files were found in folders, a clash of outputs is a problem of those files alone.
    """
    check_names(paths if folder is None else (*paths, folder))
    paths = [STDIO if descriptor_of(path) == 0 else path for path in paths]
    if len(paths) == 2 and _is_pair(paths[0], paths[1], is_output):
        if folder is not None:
            raise UsageError(f"give either the output {shown(paths[1])} or -o, not both")
        return _single(paths[0], paths[1])
    if folder is not None and _is_called_like_a_file(folder, suffix):
        if len(paths) > 1:
            raise UsageError(f"-o {shown(folder)} is a file for {len(paths)} inputs; name a folder")
        return _single(paths[0], folder)
    if STDIO in paths:
        if len(paths) > 1 or folder is not None:
            raise UsageError("- (standard input) goes alone or with one output")
        return Plan((Job(STDIO, STDIO),))
    if folder is None and len(paths) > 1:
        _refuse_ambiguous(paths, suffix)
    inputs, problems = gather(paths, fits)
    inputs, notes = _without_outputs(inputs, is_shc if suffix == ".shc" else is_picture)
    jobs, renamed = _named(inputs, folder, suffix)
    return replace(_without_clashes(jobs, problems), notes=(*notes, *renamed), folder=folder)


def pending(plan: Plan, *, force: bool, skip_existing: bool) -> Plan:
    """Leave out the jobs whose outputs exist: as failures, or as done with `skip_existing`; none with `force`.

    Jobs whose outputs cannot be written in any case are failures before any work.

    Raises:
        UsageError: both are given, or a picture would go to a terminal.
    """
    if force and skip_existing:
        raise UsageError("-f and --skip-existing exclude each other")
    if any(job.target == STDIO for job in plan.jobs):
        if sys.stdout is None:
            raise UsageError("standard output is closed; name an output")
        if is_terminal(sys.stdout):
            raise UsageError("not writing a picture to a terminal; name an output or redirect stdout")
    plan = _writable(plan)
    if force:
        return plan
    there = {job for job in plan.jobs if job.is_done}
    left = tuple(job for job in plan.jobs if job not in there)
    if not skip_existing:
        refused = (f"{shown(job.target)}: exists already (-f overwrites it)" for job in plan.jobs if job in there)
        return replace(plan, jobs=left, problems=(*plan.problems, *refused))
    stale = sum(job.is_stale for job in there)
    notes = (f"outputs older than their inputs: {stale} (-f makes them anew)",) if stale else ()
    return replace(plan, jobs=left, notes=(*plan.notes, *notes), left_out=len(there))


def make_folder(plan: Plan) -> None:
    """Make the folder for outputs, if one is named."""
    if plan.folder is not None:
        os.makedirs(plan.folder, exist_ok=True)


def _is_pair(first: str, second: str, is_output: Callable[[str], bool]) -> bool:
    """Whether two paths are an input and its output; two folders or patterns are two inputs."""
    if second == STDIO or descriptor_of(second) == 1:
        return True
    return (is_output(second) or is_stream(second)) and not (is_several(first) and is_several(second))


def _is_called_like_a_file(path: str, suffix: str) -> bool:
    """Whether what is given as a folder is a file or a stream, or has the suffix of an output and is no folder."""
    if path == STDIO or is_stream(path) or os.path.isfile(path):
        return True
    return not os.path.isdir(path) and (is_shc(path) if suffix == ".shc" else is_picture(path))


def _single(source: str, target: str) -> Plan:
    """Return the plan for one input and its output."""
    if is_several(source):
        raise UsageError(f"{shown(source)} stands for several inputs; give a folder for the outputs with -o")
    if descriptor_of(target) == 1:
        target = STDIO
    return _without_clashes([Job(source, target)], [])


def _refuse_ambiguous(paths: Sequence[str], suffix: str) -> None:
    """Refuse a last word that may be meant as an output, before it is taken as an input.

    Raises:
        UsageError: a folder after files, or of two words a second that is no file.
    """
    *_, last = paths
    if os.path.isdir(last) and not any(map(os.path.isdir, paths[:-1])):
        raise UsageError(f"{shown(last)} is a folder: -o {shown(last)} puts outputs there; as an input, name it first")
    if len(paths) == 2 and not os.path.lexists(last) and not is_several(last):
        work, outputs = ("encode", "ends in .shc") if suffix == ".shc" else ("decode", "is called like a picture")
        raise UsageError(f"there is no file {shown(last)} to {work}; an output {outputs}")


def _without_outputs(inputs: list[Input], is_output: Callable[[str], bool]) -> tuple[list[Input], list[str]]:
    """Leave out what an earlier call has made, unless that is all there is; returns a line about it as well."""
    kept = [file for file in inputs if not is_output(file.path)]
    number = len(inputs) - len(kept)
    if not kept or not number:
        return inputs, []
    return kept, [f"{number} left out, as {'it looks like an output' if number == 1 else 'they look like outputs'}"]


def _named(inputs: Sequence[Input], folder: str | None, suffix: str) -> tuple[list[Job], list[str]]:
    """Name the outputs; where two would be the same they keep the input's suffix, as a.jpg.shc, and a line says so."""
    whole: set[Input] = set()
    while True:
        targets = {file: _output(file, folder, suffix, whole=file in whole) for file in dict.fromkeys(inputs)}
        by_target: dict[str, set[Input]] = {}
        for file, target in targets.items():
            by_target.setdefault(real_path(target), set()).add(file)
        # One file by two names gets no two outputs: that is told as a mistake.
        groups = [group for group in by_target.values() if len({real_path(file.path) for file in group}) > 1]
        more = {file for group in groups for file in group} - whole
        if not more:
            break
        whole |= more
    jobs = [Job(file.path, targets[file], listed=file.listed) for file in inputs]
    kept = [shown(job.target) for job, file in zip(jobs, inputs, strict=True) if file in whole]
    if not kept:
        return jobs, []
    return jobs, [f"{len(kept)} inputs differ in nothing but their suffix, so outputs keep it, as {kept[0]} does"]


def _output(file: Input, folder: str | None, suffix: str, *, whole: bool) -> str:
    """Return the output's name: that of the input with another suffix, or one more, beside it or in `folder`."""
    path = Path(file.path)
    if not path.name:
        raise UsageError(f"{shown(file.path)} is no name of a file")
    name = path.with_name(path.name + suffix) if whole else path.with_suffix(suffix)
    if folder is None:
        return str(name)
    return str(Path(folder, name.name if file.root is None else name.relative_to(file.root)))


def _without_clashes(jobs: Sequence[Job], problems: Sequence[str]) -> Plan:
    """Take out the jobs whose output is a folder, another job's output, or another job's input."""
    by_target: dict[str, list[Job]] = {}
    for job in jobs:
        if job.target != STDIO:
            by_target.setdefault(real_path(job.target), []).append(job)
    by_source = {real_path(job.source): job for job in jobs if job.source != STDIO}
    clashing: set[Job] = set()
    lines = list(problems)
    for real, group in by_target.items():
        line = _clash(group, by_source.get(real))
        if line:
            if not any(job.listed for job in group):
                raise UsageError(line)
            lines.append(line)
            clashing.update(group)
    return Plan(tuple(job for job in jobs if job not in clashing), tuple(lines))


def _clash(group: Sequence[Job], reader: Job | None) -> str:
    """Say what is wrong with an output that the jobs of `group` would write and `reader` reads; "" if nothing."""
    target = shown(group[0].target)
    if os.path.isdir(group[0].target):
        return f"the output {target} is a folder (-o DIR puts outputs there)"
    if len(group) > 1:
        sources = [shown(job.source) for job in group]
        return f"{', '.join(sources[:-1])} and {sources[-1]} have the same output {target}"
    if reader is not None and reader != group[0]:
        return f"the output {target} is an input as well"
    return ""


def _writable(plan: Plan) -> Plan:
    """Turn jobs whose outputs cannot be written into failures; a missing input is reported before that."""
    why: dict[Job, str] = {}
    for job in plan.jobs:
        if job.source == STDIO or os.path.exists(job.source):
            why[job] = job.hindrance
            missing = job.target != STDIO and not os.path.lexists(os.path.dirname(job.target) or ".")
            if missing and not job.listed and plan.folder is None:
                why[job] = os.strerror(errno.ENOENT)
    lines = (f"{shown(job.target)}: {reason}" for job, reason in why.items() if reason)
    jobs = tuple(job for job in plan.jobs if not why.get(job))
    return replace(plan, jobs=jobs, problems=(*plan.problems, *lines))
