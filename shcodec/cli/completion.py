"""`shc completion`: the script that completes commands, options and names of files in a shell."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from shcodec.cli.console import say


@click.command(
    short_help="Print the script that completes shc's commands in a shell.",
    epilog="""\b
Examples, each for a start-up file of its shell:
  eval "$(shc completion bash)"                                  # ~/.bashrc
  eval "$(shc completion zsh)"                                   # ~/.zshrc
  shc completion fish > ~/.config/fish/completions/shc.fish""",
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print the script that completes shc's commands, options and file names in a shell."""
    from shcodec.cli import cli

    completion = get_completion_class(shell)
    if completion is None:
        raise click.UsageError(f"click has no completion for {shell}")
    say(completion(cli, {}, "shc", "_SHC_COMPLETE").source())
