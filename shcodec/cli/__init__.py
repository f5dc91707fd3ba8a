"""The command `shc`: one module per command, imported only when its command is called.

`main` is the only place where errors become exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted, 143
terminated, 129 hung up.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import cast

import click
from click.exceptions import Exit

from shcodec import __version__
from shcodec.cli.console import StandardOutputError, give_up_stdout, prepare_streams, report_error, say
from shcodec.support.errors import ShcError, UsageError
from shcodec.support.progress import is_terminal
from shcodec.support.text import one_line, shown

COMMANDS: Mapping[str, str] = MappingProxyType(
    {
        "encode": "Compress pictures to .shc files.",
        "decode": "Decompress .shc files to pictures.",
        "info": "Show what .shc files hold.",
        "verify": "Check that .shc files are whole.",
        "compare": "Compare coded pictures with their original.",
        "net": "Compress the weights of neural networks.",
        "models": "List, show and check the models that are here.",
        "bench": "Measure shc beside other codecs.",
        "train": "Train a codec from a folder of pictures.",
        "export": "Freeze a training run into a model.",
        "completion": "Print the script that completes shc's commands in a shell.",
    }
)
"""Every command with its line of help. `shc --help` must be quick, so it reads this table and imports none of them."""


class LazyGroup(click.Group):
    """A group whose commands live in `shcodec.cli.<name>` as `command`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of `COMMANDS`."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the module of one command."""
        if cmd_name not in COMMANDS:
            return None
        return cast(click.Command, importlib.import_module(f"shcodec.cli.{cmd_name}").command)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; where there is a file in its place, say which command was probably meant."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError:
            if not os.path.lexists(args[0]):
                raise
            likely = "decode" if args[0].lower().endswith(".shc") else "encode"
            raise click.UsageError(f"{args[0]} is no command; did you mean 'shc {likely} {args[0]}'", ctx) from None

    def invoke(self, ctx: click.Context) -> object:
        """Run a command; Ctrl-C ends it with one line."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            # A terminal shows ^C at the start of the line.
            say(("\n" if is_terminal(sys.stderr) else "") + "shc: interrupted", err=True)
            raise Exit(130) from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the table of commands without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


def print_version(ctx: click.Context, option: click.Parameter, wanted: bool) -> None:
    """Print the version and the ids of the models, which say what files can be decoded."""
    if not wanted or ctx.resilient_parsing:
        return
    from shcodec.model import zoo

    say(f"shc {__version__}")
    for name in zoo.model_names():
        try:
            say(f"model {name} {zoo.card(name).get('id', 'unknown')}")
        except ShcError as error:
            say(f"model {name} damaged: {one_line(error)}")
    ctx.exit()


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="""\b
Examples:
  shc encode photo.png
  shc decode photo.shc
  shc encode photos -o packed -j 0

\b
'shc COMMAND --help' tells more. 'shc completion bash' (zsh, fish) prints the script for the shell's completion.""",
)
@click.option(
    "-V",
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=print_version,
    help="Print the version and the models' ids.",
)
def cli() -> None:
    """A learned image codec: picture to .shc and back."""  # noqa: D401 (the text of --help)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code.

    Every failure is one line on stderr. `SHC_TRACEBACK=1` in the environment shows where it came from instead.

    Args:
        argv: the arguments after the program's name; those of the process by default.
    """
    prepare_streams()
    try:
        _clean_up_when_terminated()
        result = cli.main(args=None if argv is None else list(argv), prog_name="shc", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return 2
    except click.Abort:
        return 130
    except Exception as error:  # the outermost boundary: whatever happened, the user gets one line
        if os.environ.get("SHC_TRACEBACK"):
            raise
        if isinstance(error, StandardOutputError):
            give_up_stdout()
        report_error(_message(error))
        return 2 if isinstance(error, (click.UsageError, UsageError)) else 1


def _clean_up_when_terminated() -> None:
    """Let SIGTERM and SIGHUP end the program as an error would: else a temporary file could stay behind."""

    def terminate(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    if threading.current_thread() is threading.main_thread():
        for name in ("SIGTERM", "SIGHUP"):  # the second is unknown to Windows
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) is signal.SIG_DFL:
                signal.signal(number, terminate)


def _message(error: Exception) -> str:
    """Return one line for the user; an unexpected error is named as such."""
    if isinstance(error, click.UsageError):
        hint = f" (see '{error.ctx.command_path} --help')" if error.ctx else ""
        return shown(" ".join(error.format_message().split())).rstrip(".") + hint
    if isinstance(error, click.ClickException):
        return shown(" ".join(error.format_message().split()))
    if isinstance(error, (ShcError, OSError)):
        return one_line(error)
    if isinstance(error, MemoryError):
        return "out of memory"
    if isinstance(error, RecursionError):
        return "something is nested too deeply"
    return f"internal error: {type(error).__name__}: {one_line(error)} (SHC_TRACEBACK=1 shows where)"
