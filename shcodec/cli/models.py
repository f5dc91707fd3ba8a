"""`shc models`: the models that are here."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import click
from click.exceptions import Exit

from shcodec.cli.console import print_json, print_table, report_error, say
from shcodec.support.errors import ShcError
from shcodec.support.text import one_line


@dataclass(frozen=True)
class Summary:
    """One line of the list; `bytes` is the size of the model's folder."""

    name: str
    id: str
    family: str
    bytes: int
    default: bool


@click.group(
    name="models",
    invoke_without_command=True,
    short_help="List, show and check the models that are here.",
    epilog="""\b
Examples:
  shc models
  shc models show fast
  shc models verify""",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON: one object per model, or the card.")
@click.pass_context
def command(ctx: click.Context, as_json: bool) -> None:
    """List, show and check the models that are here. Without a command: list."""
    ctx.obj = as_json  # before the command's name it means the same as behind it
    if ctx.invoked_subcommand is None:
        ctx.invoke(list_models, as_json=as_json)


@command.command(name="list")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per model.")
@click.pass_obj
def list_models(before: bool, as_json: bool = False) -> None:
    """List the models: name, id, family and size; * marks the default."""
    from shcodec.model import zoo

    as_json = as_json or before
    found = []
    failed = False
    for name in zoo.model_names():
        try:
            found.append(describe(name))
        except ShcError as error:  # the others are still listed
            report_error(f"{name}: {one_line(error)}")
            failed = True
    if as_json:
        for model in found:
            print_json(asdict(model))
    else:
        rows = [(m.name, m.id, m.family, f"{m.bytes / 2**20:.1f} MiB", "*" if m.default else "") for m in found]
        print_table(("name", "id", "family", "size", "default"), rows)
    if failed:
        raise Exit(1)


@command.command()
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print the card as JSON.")
@click.pass_obj
def show(before: bool, name: str, as_json: bool) -> None:
    """Print a model's card: data, training, measured results, licence."""
    from shcodec.model import zoo

    if as_json or before:
        print_json(zoo.card(name))
    else:
        say((zoo.model_dir(name) / "model.toml").read_text(encoding="utf-8").rstrip())


@command.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per model, whole or not.")
@click.pass_context
def verify(ctx: click.Context, names: tuple[str, ...], as_json: bool) -> None:
    """Check the files of models against their cards; all models without a NAME."""
    from shcodec.model import zoo

    as_json = as_json or ctx.obj
    failed = False
    for name in names or zoo.model_names():
        problems = zoo.verify(name)
        for problem in problems:
            report_error(f"{name}: {problem}")
        if as_json:
            print_json({"name": name, "ok": not problems, "problems": problems})
        elif not problems:
            say(f"{name} OK")
        failed = failed or bool(problems)
    ctx.exit(int(failed))


def describe(name: str) -> Summary:
    """Return a model's line of the list, from its card and its folder."""
    from shcodec.model import zoo

    card = zoo.card(name)
    return Summary(
        name=name,
        id=str(card.get("id", "unknown")),
        family=str(card.get("family", "unknown")),
        bytes=sum(path.stat().st_size for path in zoo.model_dir(name).rglob("*") if path.is_file()),
        default=name == zoo.DEFAULT_MODEL,
    )
