"""Stable phases: trainings that go on from one, and cooldowns that branch off.

A training at a constant rate can go on for ever; a release is a branch of it in which the rate falls (warm-up, stable,
decay; Hu et al. 2024). What a branch needs is read from one of three forms:

- the folder of a run in its smooth phase, `checkpoint.pt`: weights, averages and moments as they are;
- a packed folder, `stable.json` and `stable-N.safetensors`: averages in half precision, small enough to be kept;
- `state.pt` of a training by an earlier program.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from shcodec.nets.config import ModelConfig
from shcodec.support.atomic import write_text
from shcodec.support.errors import UsageError
from shcodec.train import checkpoint, result
from shcodec.train.config import TrainConfig
from shcodec.train.objective import Phase
from shcodec.train.schedule import HARD_WARMUP
from shcodec.train.state import RunState, scale_of

FACTS, PART = "stable.json", "stable-{}.safetensors"
EARLIER = "state.pt"
WEIGHT, DEVIATION = "w.", "v."  # prefixes: parameters, and root mean squares of their gradients
SETTLED = 500.0  # steps that moments without a count stand for


@dataclass(frozen=True)
class Stable:
    """Where a stable phase stands.

    Attributes:
        model: its architecture.
        weights: parameters by name; without codebooks, if packed.
        average: their running averages.
        moments: by parameter, what AdamW keeps of it; empty if packed.
        guard: as `Guard.tensors`, or None.
        step: steps done.
        pixels: that went through the encoder.
    """

    model: ModelConfig
    weights: dict[str, Tensor]
    average: dict[str, Tensor]
    moments: dict[str, dict[str, Tensor]]
    guard: list[float] | None
    step: int
    pixels: int


def read(folder: Path) -> Stable:
    """Read a stable phase in any of its forms, on the CPU; nothing in it is executed.

    Raises:
        UsageError: there is none, or it is damaged, or its run has left the smooth phase.
    """
    forms = ((checkpoint.FILE, _of_run), (FACTS, _packed), (EARLIER, _earlier))
    for file, form in forms:
        if (folder / file).exists():
            try:
                return form(folder)
            except UsageError:
                raise
            except (*checkpoint.BROKEN, SafetensorError) as error:
                line = str(error).partition("\n")[0]
                raise UsageError(f"{folder / file}: not a readable stable phase ({line})") from None
    raise UsageError(f"{folder}: holds no stable phase ({', '.join(file for file, _ in forms)})")


def _of_run(folder: Path) -> Stable:
    config, state = checkpoint.read(folder)
    if state["phase"] != Phase.SMOOTH.value:
        raise UsageError(f"{folder}: the run has left its smooth phase; '{checkpoint.SMOOTH}' is the end of it")
    live = {name: state["learner"][name] for name in state["average"]}
    moments = _moments_by_name(live, state["optimiser"]["state"], config)
    return Stable(config.model, live, state["average"], moments, state["guard"], state["step"], state["pixels"])


def _packed(folder: Path) -> Stable:
    facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
    model = ModelConfig.from_dict(facts["config"]["model"])
    if facts.get("grafted"):  # by an earlier program, whose configurations do not tell
        model = replace(model, lapped=True, modulation="block")
    tensors: dict[str, Tensor] = {}
    for file in facts.get("files") or sorted(path.name for path in folder.glob(PART.format("*"))):
        tensors |= load_file(folder / Path(file).name)
    weights = {n.removeprefix(WEIGHT): t.float() for n, t in tensors.items() if n.startswith(WEIGHT)}
    moments = {
        name.removeprefix(DEVIATION): {
            "step": torch.tensor(SETTLED),
            "exp_avg": torch.zeros_like(tensor, dtype=torch.float32),
            "exp_avg_sq": tensor.float().square(),
        }
        for name, tensor in tensors.items()
        if name.startswith(DEVIATION)
    }
    return Stable(model, weights, weights, moments, None, int(facts["steps"]), round(1e9 * facts["gpx"]))


def _earlier(folder: Path) -> Stable:
    state = torch.load(folder / EARLIER, map_location="cpu", weights_only=True)
    best = TrainConfig.load("best")  # the only architecture that it trained
    grafts = {"lapped": True, "modulation": "block"} if state["grafted"] else {"lapped": False, "modulation": "stage"}
    live = {name: tensor for name, tensor in state["live"].items() if not name.startswith("books.")}
    moments = _moments_by_name(live, state["adam"]["state"], best)
    average = {name: state["average"][name] for name in live}
    model = replace(best.model, **grafts)  # type: ignore[arg-type]
    return Stable(model, live, average, moments, [state["usual"], 0.0], state["step"], round(1e9 * state["gpx"]))


def _moments_by_name(
    names: Iterable[str], state: dict[int, dict[str, Tensor]], config: TrainConfig
) -> dict[str, dict[str, Tensor]]:
    """Return what an optimiser keeps, by parameter; its groups have parameters of one rate, in the learner's order."""
    groups: dict[float, list[str]] = {}
    for name in names:
        groups.setdefault(scale_of(name, config), []).append(name)
    ordered = [name for group in groups.values() for name in group]
    return {ordered[index]: entry for index, entry in state.items()}


def check(stable: Stable, config: TrainConfig, folder: Path) -> None:
    """Check that a configuration can go on from a stable phase.

    Raises:
        UsageError: the architecture is another, or a cooldown has no room for its phases.
    """
    if replace(stable.model, name="") != replace(config.model, name=""):
        raise UsageError(f"{folder}: a stable phase of another architecture than the configuration's")
    s = config.schedule
    if s.stable:
        return
    warmup = 0 if stable.moments else s.warmup
    smooth, hard = s.steps * s.codebooks, s.steps * (1 - s.hard)
    if smooth <= warmup or hard <= HARD_WARMUP:
        raise UsageError(
            f"a cooldown of {s.steps} steps has no room for its phases: {smooth:.0f} smooth steps with {warmup} of "
            f"warm-up, {hard:.0f} hard ones with {HARD_WARMUP}"
        )


@torch.no_grad()
def begin_from(run: RunState, stable: Stable, folder: Path) -> None:
    """Put a fresh run where a stable phase stands.

    Args:
        run: freshly made.
        stable: what to go on from.
        folder: where it was read, for messages.

    Raises:
        UsageError: it lacks something, or is not finite.
    """
    live = dict(run.learner.named_parameters())
    for name, parameter in live.items():
        if name not in stable.weights and name.startswith("books."):
            continue  # fitted where the smooth phase ends
        if name not in stable.weights or stable.weights[name].shape != parameter.shape:
            raise UsageError(f"{folder}: the stable phase lacks {name}, or has it in another shape")
        parameter.copy_(stable.weights[name])
        run.average[name].copy_(stable.average[name])
    if not all(tensor.isfinite().all() for tensor in live.values()):
        raise UsageError(f"{folder}: the stable phase's weights are not finite")
    for name, entry in stable.moments.items():
        like = live[name]
        moments = {key: torch.empty_like(like).copy_(entry[key]) for key in ("exp_avg", "exp_avg_sq")}
        count = entry["step"].to(like.device, torch.float32)
        run.optimiser.state[like] = {"step": count, **moments}
    if stable.guard is not None:
        run.guard.load(stable.guard)
    run.step = run.first_step = stable.step
    run.pixels = stable.pixels
    run.warm_from = None if stable.moments else run.step
    run.phase_start = 0 if stable.moments else run.step


def pack(run: Path, out: Path) -> None:
    """Write the averages of a run's stable phase in half precision, to go on from elsewhere.

    Args:
        run: folder of the run.
        out: folder to write; what it holds of an earlier stable phase is replaced.

    Raises:
        UsageError: the run has no stable phase.
    """
    stable = read(run)
    averages = {WEIGHT + n: t.half() for n, t in stable.average.items() if not n.startswith("books.")}
    out.mkdir(parents=True, exist_ok=True)
    files = result.write_parts(out, PART, averages)
    for stale in {path.name for path in out.glob(PART.format("*"))} - set(files):
        (out / stale).unlink()
    facts = {
        "config": {"model": stable.model.to_dict()},
        "files": files,
        "steps": stable.step,
        "gpx": round(stable.pixels / 1e9, 4),
    }
    write_text(out / FACTS, json.dumps(facts, indent=1) + "\n")
