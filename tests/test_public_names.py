"""What callers rely on by name: functions, options of Pillow and of commands, keys of JSON. Any change shows here."""

from __future__ import annotations

import importlib
import inspect
import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import click
import pytest
from conftest import Shc, make_photo
from PIL import Image

from shcodec import pillow_plugin
from shcodec.cli import cli

# The functions with their parameters, and what else there is.
NAMES = {
    "shcodec": {
        "encode": "image beta * quality model size bpp psnr effort strict strip max_pixels",
        "decode": "data * quick max_pixels",
        "info": "data",
        "register_pillow": "",
        "ShcError": None,
        "ShcWarning": None,
        "__version__": None,
    },
    "shcodec.netpack": {
        "pack": "source * bits size sqnr config metadata",
        "pack_report": "source * target config metadata report",
        "unpack": "data * max_weights",
        "unpack_safetensors": "data * max_weights",
        "info": "data",
        "compress": "model loss_fn data * beta config accuracy checkpoint report",
        "Annealing": None,
        "CompressConfig": None,
        "Compressed": None,
        "PackConfig": None,
        "WordConfig": None,
    },
}
NEEDS_TORCH = {"compress", "CompressConfig", "Compressed", "WordConfig"}

# Batches of these share the options of workers.
WORKERS = "-j/--jobs --threads --engine --scheduler --json -v/--verbose"
COMMANDS = f"""
shc: -V/--version
shc encode: IMG|DIR... [OUT.shc] -b/--beta -q/--quality --size --bpp --psnr --strict -e/--effort -m/--model --strip \
--max-pixels -o -f/--force --skip-existing {WORKERS} --quiet
shc decode: FILE|DIR... [OUT] --format -q/--quality --max-pixels --region --keep-going --quick -o -f/--force \
--skip-existing {WORKERS} --quiet
shc info: FILE|DIR... --json
shc verify: FILE|DIR... --max-pixels {WORKERS} -q/--quiet
shc compare: ORIGINAL FILE... --out --max-pixels --quick -f/--force --json --threads
shc net:
shc net info: FILE... --json
shc net pack: IN.safetensors [OUT.shcn] --bits --size --sqnr --weighting --states --fine-bits -f/--force --json \
-v/--verbose -q/--quiet
shc net unpack: FILE.shcn [OUT.safetensors] --max-weights -f/--force --json -q/--quiet
shc models: --json
shc models list: --json
shc models show: NAME --json
shc models verify: [NAME]... --json
shc bench: --dataset --data-root --out --betas --qualities --codecs --anchor --limit -j/--jobs --repeat \
--process-times --published --crops --update-cards --resume -f/--force --json --threads
shc train: CONFIG --painter --on --data --out --resume --init --init-stable --cooldown-from --time-limit --device \
--steps --stop-after --abort-if-slower --validation --idle
shc export: RUN MODEL_DIR --tune --stable
shc completion: SHELL
"""

JSON_KEYS = {
    "encode": "input output input_bytes width height bytes bpp psnr seconds beta beta_wanted probes model missed sizes "
    "times notes",
    "decode": "input output output_bytes width height bytes bpp seconds sizes times notes damaged",
    "info": "file version model_id model width height beta quality colour mode metadata sizes total bpp chunks",
    "verify": "file ok error sizes",
    "compare": "file bytes bpp psnr ms_ssim_db",
    "models list": "name id family bytes default",
    "models verify": "name ok problems",
}
TOTALS = "files input_bytes output_bytes bpp failed seconds"


@pytest.mark.parametrize("module", NAMES)
def test_what_a_module_exports(module: str) -> None:
    found, names = importlib.import_module(module), NAMES[module]
    assert sorted(found.__all__) == sorted(names)
    for name in names:
        if name in NEEDS_TORCH:
            pytest.importorskip("torch", reason="needs the extra 'train'")
        assert getattr(found, name) is not None
        if parameters := names[name]:
            assert told(getattr(found, name)) == parameters
    with pytest.raises(AttributeError, match="no attribute 'nonesuch'"):
        _ = found.nonesuch


def told(function: Any) -> str:
    """Return the names of a function's parameters; a star stands before those that must be named."""
    found = list(inspect.signature(function).parameters.values())
    named = [parameter.name for parameter in found if parameter.kind is parameter.KEYWORD_ONLY]
    return " ".join([*(p.name for p in found if p.name not in named), *(["*", *named] if named else [])])


@pytest.mark.parametrize("module", NAMES)
def test_an_import_costs_nothing(module: str) -> None:
    code = f"""
import sys, {module}
print(*sorted({{"PIL", "numpy", "onnxruntime", "torch"}} & sys.modules.keys()))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == []


def test_what_the_pillow_plugin_offers() -> None:
    assert issubclass(pillow_plugin.ShcImageFile, Image.Image)
    pillow_plugin.register()  # a second time changes nothing
    assert pillow_plugin.FORMAT == "SHC"
    assert Image.registered_extensions()[".shc"] == "SHC"
    assert Image.MIME["SHC"] == "image/x-shc"
    assert {"SHC"} <= Image.OPEN.keys() & Image.SAVE.keys() & Image.SAVE_ALL.keys()


def test_commands_and_their_options() -> None:
    assert list(usage(cli, "shc")) == COMMANDS.strip().splitlines()


def usage(command: click.Command, name: str) -> Iterator[str]:
    """Yield a line for a command and for each below it: its arguments and its options with all their names."""
    words = [
        parameter.human_readable_name
        if isinstance(parameter, click.Argument)
        else "/".join([*parameter.opts, *parameter.secondary_opts])
        for parameter in command.params
    ]
    yield " ".join([f"{name}:", *words])
    if isinstance(command, click.Group):
        context = click.Context(command)
        for child in command.list_commands(context):
            found = command.get_command(context, child)
            assert found is not None
            yield from usage(found, f"{name} {child}")


def test_keys_of_json(shc: Shc, tiny_model: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        Image.fromarray(make_photo(20, 30)).save(f"{name}.png")
    commands = {
        "encode": ("encode", "-m", tiny_model, "a.png", "b.png"),
        "decode": ("decode", "a.shc", "b.shc", "-f"),
        "info": ("info", "a.shc"),
        "verify": ("verify", "a.shc"),
        "compare": ("compare", "a.png", "a.shc"),
        "models list": ("models", "list"),
        "models verify": ("models", "verify", tiny_model),
    }
    keys: dict[str, str] = {}
    for name, command in commands.items():
        outcome = shc(*command, "--json")
        assert outcome.code == 0, outcome.err
        keys[name] = " ".join(json.loads(outcome.out.splitlines()[0]))
        if name in ("encode", "decode"):
            assert " ".join(json.loads(outcome.err.splitlines()[-1])["totals"]) == TOTALS
    assert keys == JSON_KEYS
