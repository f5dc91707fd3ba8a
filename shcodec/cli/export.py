"""`shc export`: a training run becomes a model."""

from __future__ import annotations

from pathlib import Path

import click

from shcodec.cli.console import require_extra


@click.command(
    short_help="Freeze a training run into a model.",
    epilog="""\b
Example:
  shc export runs/fast models/fast
  shc export runs/fast models/fast --tune validation
  shc export runs/stable packed --stable
  shc export runs/quick models/best""",
)
@click.argument("run", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("model_dir", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--tune",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="DIR",
    help="Tune the encoder's choice of indices on the validation pictures in DIR.",
)
@click.option("--stable", is_flag=True, help="Pack RUN's stable phase instead, for training to go on from.")
def command(run: Path, model_dir: Path, tune: Path | None, stable: bool) -> None:
    """Freeze the training run in the folder RUN into the model folder MODEL_DIR: tables, graphs, weights and a card.

    A painter is put into the model that it was trained for.
    """
    if stable and tune is not None:
        raise click.UsageError("--stable and --tune exclude each other: a stable phase is no model yet.")
    require_extra("export", "train", ("torch", "onnx", "tomli_w"))
    if stable:
        from shcodec.train.stable import pack

        pack(run, model_dir)
        return
    from shcodec.train.export import export, export_painter, is_painter

    if is_painter(run):
        if tune is not None:
            raise click.UsageError("--tune is for the encoder; a painter leaves it alone.")
        export_painter(run, model_dir)
        return
    export(run, model_dir)
    if tune is not None:
        from shcodec.train.tune import tune_rate_weight

        weights = tune_rate_weight(model_dir, tune)
        click.echo("weight of the rate by beta: " + ", ".join(f"{weight:g}" for weight in weights), err=True)
