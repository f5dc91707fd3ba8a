"""Fuzzes the container parser and the whole decoder for as long as it takes. `make attacks` runs it.

    python fuzz.py container --executions 1000000
    python fuzz.py decoder --executions 20000
    python fuzz.py coverage CORPUS...

The first two run atheris, guided by coverage of the package's Python code, from the golden files; where atheris is not
installed, seeded mutation (`forge.mutated`) without guidance. They end with the first input that raises anything but
one of the package's errors, and leave it as `crash-*` in the corpus. The third replays corpora and tells which lines of
the container and of the symbol path they reach. Each prints one JSON object as its last line.
"""

from __future__ import annotations

import argparse
import ast
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from types import ModuleType

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path[:0] = [str(HERE), str(HERE.parent / "helpers"), str(ROOT)]
os.environ["SHC_MODELS"] = str(ROOT / "tests" / "golden")
os.environ.setdefault("SHC_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

# What only encoders, training and the command line call; fuzzing the reader cannot reach it.
WRITERS = {
    "pack", "beta_to_byte", "byte_to_beta", "chunks_size", "_check_fields", "_check_limits", "join",
    "pack_extras", "metadata_names", "pillow_mode", "pillow_info", "deflated", "write", "row_bits", "choose", "search",
    "search_among", "_search_levels", "nearest_levels", "class_spread", "class_coordinate", "encode", "bits",
    "integer_table", "_filtered", "_packed", "fill_hidden", "_fill", "_halved", "_beside", "fill_damaged", "box",
    "_check", "check_tables",
}  # fmt: skip
READERS = ("container", "symbols", "support.bytestream", "support.deflate", "codec.synthesis")
"""Packages and modules whose lines are looked at."""
FEW_PIXELS = 1 << 16
LONGEST = 2000
"""Bytes of an input at most."""


def container_target() -> Callable[[bytes], None]:
    """Parse an input as it is, and with the checksum that it should have."""
    from forge import read_or_reject
    from made_up_bytes import sealed

    from shcodec import container
    from shcodec.container.extras import unpack_metadata
    from shcodec.container.payload import split
    from shcodec.symbols.grid import Grid, tiles_of

    def parse(data: bytes) -> None:
        file = container.unpack(data)
        if container.pack(file) != data:
            raise AssertionError("accepted, but not canonical")
        if sum(container.part_sizes(data).values()) != len(data):
            raise AssertionError("the parts do not add up")
        unpack_metadata(file.chunks)
        count = len(tiles_of(Grid.of(file.height, file.width)))
        split(container.head(file), file.payload, count)

    def run(data: bytes) -> None:
        read_or_reject(data, parse)
        read_or_reject(sealed(data), parse)
        read_or_reject(data, lambda file: container.unpack_header(file, chunks=True))

    return run


def decoder_target() -> Callable[[bytes], None]:
    """Decode an input under the checksum that it should have, and what can be made of it: a file of a valid form."""
    from forge import GOLDEN_FILES, Parts, chunk, claiming, read_or_reject, taken_apart, with_chunks
    from made_up_bytes import sealed

    from shcodec.codec import decoding

    seed = taken_apart(next(GOLDEN_FILES.glob("*.shc")).read_bytes())

    def formed(data: bytes) -> bytes:
        """Return a file with a size, a beta, perhaps a chunk, and tiles of any bytes."""
        width, height, kind, beta = (*data[:4], 0, 0, 0, 0)[:4]
        parts = Parts(16 | (kind & 2), seed.model, b"", b"", beta, b"", b"")
        rest, sides = data[4:], (1 + width % 100, 1 + height % 100)
        if kind % 5 == 1:
            tag = (b"ALPH", b"iccp", b"exif", b"xmlp")[kind % 4]
            length = rest[0] % 32 if rest else 0
            parts, rest = with_chunks(parts, chunk(tag, rest[1 : 1 + length])), rest[1 + length :]
        if kind % 5 == 2:
            sides = (2049 + width % 50, 1 + height % 20)  # two tiles
        middle = len(rest) // 2
        halves = (rest[:middle].rstrip(b"\0"), rest[middle:].rstrip(b"\0"))
        return claiming(parts, *sides, lambda number: halves[number])

    def run(data: bytes) -> None:
        for file in (sealed(data), formed(data)):
            read_or_reject(file, lambda file: decoding.decode(file, max_pixels=FEW_PIXELS))

    return run


TARGETS = {"container": container_target, "decoder": decoder_target}


def seeds() -> list[bytes]:
    """Return the golden files that are short, without their checksums."""
    files = sorted((ROOT / "tests" / "golden" / "files").glob("*.shc"))
    return [data[:-4] for data in map(Path.read_bytes, files) if len(data) < LONGEST]


def guided(atheris: ModuleType, target: str, executions: int, corpus: Path, seed: int) -> None:
    """Run atheris; it ends the process."""
    with atheris.instrument_imports(include=[f"shcodec.{name}" for name in READERS]):
        run = TARGETS[target]()
    for number, data in enumerate(seeds()):
        (corpus / f"seed-{number}").write_bytes(data)
    options = [f"-runs={executions}", f"-seed={seed}", f"-max_len={LONGEST}", "-timeout=30", "-rss_limit_mb=1500"]
    atheris.Setup([sys.argv[0], *options, f"-artifact_prefix={corpus}/", "-verbosity=0", str(corpus)], run)
    atheris.Fuzz()


def unguided(target: str, executions: int, corpus: Path, seed: int) -> None:
    """Run mutations of the seeds; what it was at when something broke is left in the corpus."""
    from forge import mutated
    from made_up_bytes import sealed

    run, random = TARGETS[target](), Random(seed)
    files = [sealed(data) for data in seeds()]
    for _ in range(executions):
        data = mutated(random.choice(files), random)[:-4]
        try:
            run(data)
        except BaseException:
            (corpus / f"crash-{seed}").write_bytes(data)
            raise
    for number in range(2000):  # a sample, for the coverage
        (corpus / f"sample-{number}").write_bytes(mutated(random.choice(files), random)[:-4])


def fuzz(target: str, executions: int, corpus: Path, seed: int) -> int:
    """Fuzzes in a process of its own, since the fuzzer ends it, and prints the result."""
    corpus.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    command = [sys.executable, __file__, target, "--executions", str(executions), "--corpus", str(corpus)]
    code = subprocess.run([*command, "--seed", str(seed), "--inside"], check=False).returncode
    seconds = time.monotonic() - start
    engine = "atheris" if importlib.util.find_spec("atheris") else "seeded mutation"
    crashes = [path.name for path in corpus.iterdir() if path.name.startswith(("crash-", "timeout-", "oom-"))]
    told = {"target": target, "engine": engine, "executions": executions, "seconds": round(seconds, 1)}
    rate = round(executions / seconds)
    print(json.dumps({**told, "a second": rate, "inputs kept": len(list(corpus.iterdir())), "crashes": crashes}))
    return code or bool(crashes)


def covered(corpora: list[Path]) -> dict[str, object]:
    """Lines of the container and of the symbol path that corpora reach."""
    import coverage

    places = [ROOT / "shcodec" / name.replace(".", "/") for name in READERS]
    names = [
        str(path) for place in places for path in [place.with_suffix(".py"), *place.glob("*.py")] if path.is_file()
    ]
    with tempfile.TemporaryDirectory() as folder:
        measured = coverage.Coverage(data_file=str(Path(folder) / "data"), include=names)
        measured.start()
        runs = [target() for target in TARGETS.values()]
        inputs = [path for corpus in corpora for path in sorted(corpus.iterdir()) if path.is_file()]
        for path in inputs:
            for run in runs:
                run(path.read_bytes())
        measured.stop()
        told: dict[str, object] = {"inputs": len(inputs)}
        for name in names:
            _, lines, _, missing, _ = measured.analysis2(name)
            others = lines_of_writers(Path(name))
            lines, missing = ([line for line in found if line not in others] for found in (lines, missing))
            told[str(Path(name).relative_to(ROOT))] = {
                "lines": len(lines),
                "reached": len(lines) - len(missing),
                "missing": missing,
            }
    return told


def lines_of_writers(path: Path) -> set[int]:
    """Lines of the functions that reading a file never calls."""
    found: set[int] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef) and node.name in WRITERS:
            found |= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return found


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description="Fuzz the reader of .shc files; see the module's text.")
    parser.add_argument("what", choices=[*TARGETS, "coverage"])
    parser.add_argument("corpora", nargs="*", type=Path)
    parser.add_argument("--executions", type=int, default=1000)
    parser.add_argument("--corpus", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.what == "coverage":
        print(json.dumps(covered(options.corpora)))
        return
    corpus = options.corpus or Path(tempfile.mkdtemp(prefix="shc-fuzz-"))
    if not options.inside:
        sys.exit(fuzz(options.what, options.executions, corpus, options.seed))
    try:
        import atheris
    except ImportError:
        unguided(options.what, options.executions, corpus, options.seed)
    else:
        guided(atheris, options.what, options.executions, corpus, options.seed)


if __name__ == "__main__":
    main()
