"""`shc export`: a training run becomes a model."""

from __future__ import annotations

from pathlib import Path

import click

from shcodec.cli.console import require_extra


@click.command(
    short_help="Freeze a training run into a model.",
    epilog="""\b
Example:
  shc export runs/fast models/fast""",
)
@click.argument("run", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("model_dir", type=click.Path(file_okay=False, path_type=Path))
def command(run: Path, model_dir: Path) -> None:
    """Freeze the training run in the folder RUN into the model folder MODEL_DIR: tables, graphs, weights and a card."""
    require_extra("export", "train", ("torch", "onnx"))
    from shcodec.train import export

    export.export(run, model_dir)
