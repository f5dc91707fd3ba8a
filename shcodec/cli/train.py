"""`shc train`: a codec from a folder of pictures."""

from __future__ import annotations

from pathlib import Path

import click

from shcodec.cli.console import require_extra

_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)


@click.command(
    short_help="Train a codec from a folder of pictures.",
    epilog="""\b
Examples:
  shc train fast --data pictures --out runs/fast
  shc train fast --data pictures --out runs/fast --resume
  shc train sha --data pictures --out runs/sha --time-limit 3600
  shc train best-stable --data pictures --out runs/stable --idle --validation validation
  shc train best-cooldown --data pictures --out runs/best --cooldown-from runs/stable
  shc train --painter quick --on models/best --data pictures --out runs/quick""",
)
@click.argument("config", required=False)
@click.option("--painter", metavar="NAME", help="Train a quicker synthesis network for the model that --on names.")
@click.option("--on", type=_FOLDER, help="Folder of that model, which stays as it is.")
@click.option("--data", type=_FOLDER, required=True, help="Pictures: any tree of files, or tar packs.")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help="Folder of the run: log, checkpoints.",
)
@click.option("--resume", is_flag=True, help="Go on from the run's last checkpoint.")
@click.option("--init", type=_FOLDER, help="Start from the weights of this model.")
@click.option("--init-stable", type=_FOLDER, help="Go on from this stable phase: a run, or what was packed of one.")
@click.option("--cooldown-from", type=_FOLDER, help="Branch off this stable phase and come to an end: a release.")
@click.option("--time-limit", type=click.FloatRange(min=0, min_open=True), metavar="S", help="Seconds to spend.")
@click.option(
    "--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True, help="Where to train."
)
@click.option("--steps", type=click.IntRange(min=1), help="Instead of the configuration's number of steps.")
@click.option(
    "--stop-after",
    type=click.FloatRange(min=0, min_open=True),
    metavar="S",
    help="Leave a checkpoint after so many seconds and return; --resume goes on.",
)
@click.option(
    "--abort-if-slower",
    type=click.FloatRange(min=0, min_open=True),
    metavar="X",
    help="Give up after the first 150 steps if they were fewer than X per second, or the loss rose.",
)
@click.option("--validation", type=_FOLDER, help="Measure the loss on these pictures every thousand steps.")
@click.option(
    "--idle", is_flag=True, help="Take only what other programs leave of the processor; start it with setsid."
)
def command(
    config: str | None,
    painter: str | None,
    on: Path | None,
    data: Path,
    out: Path,
    resume: bool,
    init: Path | None,
    init_stable: Path | None,
    cooldown_from: Path | None,
    time_limit: float | None,
    device: str,
    steps: int | None,
    stop_after: float | None,
    abort_if_slower: float | None,
    validation: Path | None,
    idle: bool,
) -> None:
    """Train a codec from a folder of pictures.

    CONFIG is the name of a configuration that comes with the package (fast, best, sha) or a path to a TOML file.
    A stable phase (best-stable) trains at a constant rate for as long as it is given; cooldowns (best-cooldown) branch
    off it and become models. SIGTERM and Ctrl-C leave a checkpoint; --resume goes on with the next step.

    With --painter, no CONFIG: a second synthesis network learns to show what the files of a model decode to, in less
    time. `shc export` puts it into the model, and `shc decode --quick` takes it.
    """
    if (config is None) == (painter is None):
        raise click.UsageError("Name either a CONFIG or a --painter.")
    if (painter is None) != (on is None):
        raise click.UsageError("--painter and --on belong together.")
    require_extra("train", "train", ("torch", "safetensors"))
    if painter is not None and on is not None:
        others = {
            "--init": init, "--init-stable": init_stable, "--cooldown-from": cooldown_from, "--stop-after": stop_after,
            "--abort-if-slower": abort_if_slower, "--validation": validation,
        }  # fmt: skip
        given = [name for name, value in others.items() if value is not None]
        if given or device == "cuda":
            raise click.UsageError(f"a painter is trained on the processor, without {', '.join(given) or '--device'}.")
        from shcodec.train.painter import train_painter

        train_painter(painter, on, data, out, resume=resume, time_limit=time_limit, steps=steps, idle=idle)
        return
    assert config is not None
    from shcodec.train import loop

    loop.train(
        config,
        data,
        out,
        resume=resume,
        init=init,
        init_stable=init_stable,
        cooldown_from=cooldown_from,
        time_limit=time_limit,
        device=device,
        steps=steps,
        stop_after=stop_after,
        least_speed=abort_if_slower,
        validation=validation,
        idle=idle,
    )
