"""Training configurations: TOML files, found by name in `shcodec/train/configs/` or by path."""

from __future__ import annotations

import tomllib
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from shcodec.nets.config import ModelConfig, check_values
from shcodec.support.errors import UsageError
from shcodec.symbols.grid import HYPER_PATCH

CONFIGS = Path(__file__).parent / "configs"
MOST_DRAWINGS = 0.5


@dataclass(frozen=True)
class Schedule:
    """Where the phases begin, as fractions of the budget (steps or time, whichever is used up first)."""

    steps: int = 40_000
    warmup: int = 500  # steps of linear warm-up of the learning rate
    skip: float = 0.2  # from here cold classes are not coded
    integer: float = 0.3  # from here the class map's weights are rounded straight-through
    codebooks: float = 0.55  # end of the smooth phase: codebooks, soft assignments
    hard: float = 0.75  # everything hard; encoder and class map frozen
    decay: float = 0.5  # from here the learning rate falls along a cosine
    stable: bool = False  # the smooth phase alone at a constant rate; codebooks come in a branch, a cooldown
    young: int = 0  # steps of a stable phase that begins from nothing, in which `skip` and `integer` do not hold yet


@dataclass(frozen=True)
class Annealing:
    """How the soft assignments harden."""

    mode: str = "budget"  # "budget" (exponential in the fraction of the phase) or "gap" (Agustsson et al.)
    start: float = 2.0  # sigma at the beginning
    end: float = 40.0  # sigma at the end (mode "budget")
    gain: float = 0.3  # K_G (mode "gap"): change of sigma per unit of relative gap error and 10 steps
    horizon: float = 1000.0  # T (mode "gap"), in steps


@dataclass(frozen=True)
class TrainConfig:
    """A whole training run."""

    model: ModelConfig
    schedule: Schedule = field(default_factory=Schedule)
    annealing: Annealing = field(default_factory=Annealing)
    surrogate: str = "soft"  # "soft", "straight-through", "noise" or "convex"
    forward: str = "hard"  # what the decoder sees beside a soft assignment: "soft" or "hard"
    batch: int = 8
    crop: int = 128
    late_crop: int = 256  # after the smooth phase, with fewer pictures per batch
    lr: float = 8e-4
    codebook_lr: float = 1e-3
    last_lr: float = 5e-6
    hard_lr: float = 0.0  # the hard phase begins with this rate, where the smooth one's cosine ends; 0: one cosine
    adam_beta2: float = 0.95  # decay of the second moments; short is quick and safe at first, and biased later
    clip: float = 1.0  # the largest norm of the gradients
    clip_factor: float = 0.0  # where above 0, the largest norm in running medians of the norm instead
    ema: float = 0.999
    rate_weight: float = 0.13  # lambda_n of the index choice, squared steps per bit
    final_pictures: int = 300  # training pictures whose symbols make the final tables
    seed: int = 1
    drawings: float = 0.0  # share of drawn text, shapes and patterns in the area of the training pictures
    without: tuple[str, ...] = ()  # "steps", "refine": parts that stay as they begin, for trials of what they are worth
    compile: bool | str = "auto"  # whether g_a and g_s are compiled; "auto": on CUDA

    def to_dict(self) -> dict[str, Any]:
        """Return the configuration as the TOML files have it; `from_dict` takes it back."""
        flat = asdict(self)
        del flat["model"]
        tables = {name: flat.pop(name) for name in ("schedule", "annealing")}
        return {"model": self.model.to_dict(), **tables, "training": flat}

    @staticmethod
    def load(name: str) -> TrainConfig:
        """Read a configuration by the name of a shipped one or by path.

        A file whose first line is ``base = "NAME"`` holds only what differs from that configuration.

        Raises:
            UsageError: it or its base is not found, or not valid.
        """
        return TrainConfig.from_dict(read_tables(name))

    @staticmethod
    def from_dict(values: dict[str, Any]) -> TrainConfig:
        """Build a configuration from parsed TOML; raises UsageError for unknown keys or values."""
        unknown = set(values) - {"model", "schedule", "annealing", "training"}
        if unknown or "model" not in values:
            problem = f"unknown table [{min(unknown)}]" if unknown else "there is no table [model]"
            raise UsageError(f"the training configuration is not valid: {problem}")
        training = dict(values.get("training", {}))
        try:
            config = TrainConfig(
                model=ModelConfig.from_dict(values["model"]),
                schedule=Schedule(**values.get("schedule", {})),
                annealing=Annealing(**values.get("annealing", {})),
                without=tuple(training.pop("without", ())),
                **training,
            )
        except TypeError as error:
            raise UsageError(f"the training configuration is not valid: {error}") from None
        config.check()
        return config

    def check(self) -> None:
        """Check all values; raises UsageError for the first that does not fit."""
        for table in (self, self.schedule, self.annealing):
            check_values(table)
        for key, value, allowed in (
            ("surrogate", self.surrogate, ("soft", "straight-through", "noise", "convex")),
            ("forward", self.forward, ("soft", "hard")),
            ("annealing.mode", self.annealing.mode, ("budget", "gap")),
        ):
            if value not in allowed:
                raise UsageError(f"{key} = '{value}' is not one of {', '.join(allowed)}")
        if set(self.without) - ({"steps", "refine"} if self.model.has_hyper else set()):
            raise UsageError(
                f"without = {list(self.without)}: what can be left out is 'steps' and 'refine' of a hyper path"
            )
        if not isinstance(self.compile, bool) and self.compile != "auto":
            raise UsageError(f'compile = {self.compile!r} is not one of true, false, "auto"')
        if not self.crop or not self.late_crop or self.crop % HYPER_PATCH or self.late_crop % HYPER_PATCH:
            raise UsageError(f"crops must be multiples of {HYPER_PATCH}")
        s = self.schedule
        if max(s.skip, s.integer, s.decay, s.hard) > 1 or s.codebooks > s.hard:
            raise UsageError("the phases of the schedule must be fractions of the budget, in order")
        if self.model.has_hyper and s.integer > s.codebooks:
            raise UsageError("schedule.integer must not be later than schedule.codebooks, which freezes the class map")
        if not self.adam_beta2 < 1:
            raise UsageError("adam_beta2 must be below 1")
        if self.hard_lr and s.codebooks != s.hard:
            raise UsageError("hard_lr needs a hard phase right after the smooth one: codebooks = hard")
        if self.drawings > MOST_DRAWINGS:
            raise UsageError(f"drawings = {self.drawings:g} is more than {MOST_DRAWINGS:g}")
        least = (s.steps, self.batch, self.lr, self.codebook_lr, self.annealing.start, self.annealing.end)
        if min(least) <= 0 or self.ema >= 1:
            raise UsageError("steps, batch, learning rates and sigma must be above 0, and ema below 1")


def read_tables(name: str, folder: Path = CONFIGS, derived: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return the tables of a configuration file, laid over those of its base.

    Args:
        name: of a file in the folder of shipped ones, or a path that ends in .toml.
        folder: of the shipped ones.
        derived: names that have led here.

    Raises:
        UsageError: it or its base is not found, or not valid.
    """
    path = Path(name) if name.endswith(".toml") else folder / f"{name}.toml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in folder.glob("*.toml")))
        raise UsageError(f"no training configuration '{name}' (shipped: {known}; or a path to a .toml file)")
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: {error}") from None
    base = values.pop("base", None)
    if base is None:
        return values
    if not isinstance(base, str) or base in derived or base == name:
        raise UsageError(f"{path}: base = {base!r} is not another configuration")
    return laid_over(read_tables(base, folder, (*derived, name)), values)


def laid_over(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Return a copy of nested tables with the changed values; lists are replaced as a whole."""
    merged = dict(base)
    for key, value in changes.items():
        old = merged.get(key)
        merged[key] = laid_over(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged
