"""Folders and patterns as inputs: what is found, where the outputs go, what clashes."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from conftest import Shc, make_photo
from PIL import Image

from shcodec.cli.batch.inputs import gather, gather_shc, is_picture, is_shc
from shcodec.cli.batch.plan import Plan, plan
from shcodec.support.errors import UsageError


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder of empty files: pictures, hidden ones, other files, and a link that leads round in a circle."""
    monkeypatch.chdir(tmp_path)
    for name in (
        "pics/b.png",
        "pics/a.JPG",
        "pics/sub/c.webp",
        "pics/sub/deep/d.tif",
        "pics/.e.png",
        "pics/.git/f.png",
    ):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()
    for name in ("pics/notes.txt", "pics/g.shc", "pics/h.pdf", "pics/sub/i.eps", "x[1].png"):
        Path(name).touch()
    Path("pics/sub/deep/round").symlink_to(tmp_path / "pics")
    Path("pics/sub/deep/again").symlink_to(tmp_path / "pics")
    Path("empty").mkdir()
    return tmp_path


def names(*paths: str) -> list[str]:
    inputs, problems = gather(paths, is_picture)
    assert not problems
    return [file.path for file in inputs]


ALL = ["pics/a.JPG", "pics/b.png", "pics/sub/c.webp", "pics/sub/deep/d.tif"]


def test_a_folder_stands_for_the_pictures_below_it(tree: Path) -> None:
    assert names("pics") == ALL
    assert names("pics/") == ALL
    assert [file.path for file in gather(["pics"], is_shc)[0]] == ["pics/g.shc"]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("pics/*.png", ["pics/b.png"]),
        ("p*/?.JPG", ["pics/a.JPG"]),
        ("pics/**/*.[tw]*", ["pics/notes.txt", "pics/sub/c.webp", "pics/sub/deep/d.tif"]),
        ("pics/.*.png", ["pics/.e.png"]),
        ("x[1].png", ["x[1].png"]),
        ("pics/sub*", ["pics/sub/c.webp", "pics/sub/deep/d.tif"]),
        ("pics/*.gif", ["pics/*.gif"]),
        ("nowhere/**/*.gif", ["nowhere/**/*.gif"]),
        ("pics/a**", ["pics/a**"]),
    ],
)
def test_patterns(tree: Path, pattern: str, expected: list[str]) -> None:
    assert names(pattern) == expected


def test_two_stars_at_the_end_are_all_files(tree: Path) -> None:
    assert names("pics/sub/**") == ["pics/sub/c.webp", "pics/sub/deep/d.tif", "pics/sub/i.eps"]


def test_absolute_patterns(tree: Path) -> None:
    assert names(f"{tree}/pics/*.png") == [f"{tree}/pics/b.png"]


def test_what_is_found_twice_is_meant_once(tree: Path) -> None:
    assert names("pics", "./pics", "pics/") == ALL
    assert names("pics/*.png", "pics") == ["pics/b.png", "pics/a.JPG", "pics/sub/c.webp", "pics/sub/deep/d.tif"]
    assert names("pics", "pics/b.png") == ["pics/a.JPG", "pics/sub/c.webp", "pics/sub/deep/d.tif", "pics/b.png"]


def test_folders_in_folders_without_end(tree: Path) -> None:
    """Python's own walk calls itself a thousand times at most."""
    bottom = os.open("empty", os.O_RDONLY)
    for _ in range(1200):
        os.mkdir("d", dir_fd=bottom)
        bottom, above = os.open("d", os.O_RDONLY, dir_fd=bottom), bottom
        os.close(above)
    os.close(os.open("a.png", os.O_CREAT | os.O_WRONLY, dir_fd=bottom))
    os.close(bottom)
    assert names("empty") == ["empty/" + 1200 * "d/" + "a.png"]
    subprocess.run(["rm", "-r", "empty"], check=True)  # pytest would call itself as often


def test_folders_without_inputs_are_problems(tree: Path) -> None:
    inputs, problems = gather(["empty", "pics"], is_picture)
    assert [file.path for file in inputs] == ALL
    assert problems == ["empty: no pictures in this folder"]


def test_neither_pipes_nor_devices(tree: Path) -> None:
    os.mkfifo("empty/pipe.png")
    Path("empty/absent.png").symlink_to("nowhere.png")
    assert names("empty") == ["empty/absent.png"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_cannot_be_read(tree: Path) -> None:
    Path("pics/sub").chmod(0)
    inputs, problems = gather(["pics"], is_picture)
    Path("pics/sub").chmod(0o755)
    assert [file.path for file in inputs] == ALL[:2]
    assert problems == ["pics/sub: Permission denied"]


def test_standard_input_goes_alone() -> None:
    with pytest.raises(UsageError, match="goes alone"):
        gather_shc(["-", "a.shc"])


# Outputs


def targets(*paths: str, folder: str | None = None) -> dict[str, str]:
    planned = planned_for(*paths, folder=folder)
    assert not planned.problems
    return {job.source: job.target for job in planned.jobs}


def planned_for(*paths: str, folder: str | None = None) -> Plan:
    return plan(paths, folder, ".shc", is_shc, is_picture)


def test_outputs_lie_beside_their_inputs(tree: Path) -> None:
    assert targets("pics")["pics/sub/c.webp"] == "pics/sub/c.shc"


def test_the_tree_below_a_folder_is_kept(tree: Path) -> None:
    assert list(targets("pics", folder="out").values()) == [
        "out/a.shc",
        "out/b.shc",
        "out/sub/c.shc",
        "out/sub/deep/d.shc",
    ]
    assert targets("pics/**/*.tif", folder="out") == {"pics/sub/deep/d.tif": "out/sub/deep/d.shc"}
    assert targets("pics/sub/c.webp", "pics/*.png", folder="out") == {
        "pics/sub/c.webp": "out/c.shc",
        "pics/b.png": "out/b.shc",
    }


def test_two_folders_are_two_inputs(tree: Path) -> None:
    planned = plan(["pics", "pics/sub"], None, ".png", lambda path: not is_shc(path), is_shc)
    assert [job.source for job in planned.jobs] == ["pics/g.shc"]
    assert planned.problems == ("pics/sub: no .shc files in this folder",)


def test_a_folder_has_no_single_output(tree: Path) -> None:
    with pytest.raises(UsageError, match=r"pics stands for several inputs; .* -o"):
        planned_for("pics", "out.shc")
    with pytest.raises(UsageError, match=r"stands for several inputs"):
        planned_for("pics", "-")


def test_clashes_below_a_folder_leave_the_rest(tree: Path) -> None:
    Path("pics/deep").mkdir()
    Path("pics/deep/d.tif").touch()
    Path("pics/sub/c.shc").mkdir()
    planned = planned_for("pics/sub", "pics/deep", "pics/*.JPG", folder="pics/sub")
    assert [job.source for job in planned.jobs] == ["pics/sub/deep/d.tif", "pics/deep/d.tif", "pics/a.JPG"]
    assert planned.problems == ("the output pics/sub/c.shc is a folder (-o DIR puts outputs there)",)
    planned = planned_for("pics/sub/deep", "pics/deep", "pics/*.JPG", folder="out")
    assert [job.source for job in planned.jobs] == ["pics/a.JPG"]
    assert planned.problems == ("pics/sub/deep/d.tif and pics/deep/d.tif have the same output out/d.tif.shc",)


def test_names_that_differ_in_the_suffix(tree: Path) -> None:
    for name in ("b.jpg", "b.webp", "sub/c.png", "sub/c.png.png"):
        Path("pics", name).touch()
    planned = planned_for("pics", folder="out")
    assert {job.source: job.target for job in planned.jobs} == {
        "pics/a.JPG": "out/a.shc",
        "pics/b.jpg": "out/b.jpg.shc",
        "pics/b.png": "out/b.png.shc",
        "pics/b.webp": "out/b.webp.shc",
        "pics/sub/c.png": "out/sub/c.png.shc",
        "pics/sub/c.png.png": "out/sub/c.png.png.shc",  # or it would be c.png.shc, which is taken
        "pics/sub/c.webp": "out/sub/c.webp.shc",
        "pics/sub/deep/d.tif": "out/sub/deep/d.shc",
    }
    assert not planned.problems
    assert planned.notes == ("6 inputs differ in nothing but their suffix, so outputs keep it, as out/b.jpg.shc does",)
    assert planned_for("pics", folder="out") == planned
    assert [job.target for job in planned_for("pics/b.png", "pics/b.jpg").jobs] == ["pics/b.png.shc", "pics/b.jpg.shc"]
    for twice in ("pics/b.png", "./pics/b.png", f"{tree}/pics/b.png"):
        with pytest.raises(UsageError, match="have the same output"):
            planned_for("pics/b.png", twice)


def decoded_for(*paths: str, folder: str | None = None) -> Plan:
    return plan(paths, folder, ".png", lambda path: not is_shc(path), is_shc)


def test_outputs_of_the_last_call_are_no_inputs(tree: Path) -> None:
    Path("pics/a.shc").touch()
    for paths in (("pics/*",), ("pics/a.JPG", "pics/a.shc", "pics/b.png", "pics/g.shc")):
        planned = planned_for(*paths)
        assert {job.source for job in planned.jobs} >= {"pics/a.JPG", "pics/b.png"}
        assert not [job for job in planned.jobs if is_shc(job.source)]
        assert planned.notes == ("2 left out, as they look like outputs",)
    Path("pics/a.png").touch()
    for files in (("pics/*g", "pics/[ag].shc"), ("pics/a.shc", "pics/g.shc", "pics/a.png", "pics/b.png")):
        planned = decoded_for(*files)
        assert {job.source: job.target for job in planned.jobs} == {
            "pics/a.shc": "pics/a.png",
            "pics/g.shc": "pics/g.png",
        }
        assert planned.notes == ("2 left out, as they look like outputs",)
    assert [job.source for job in planned_for("pics/g.shc").jobs] == ["pics/g.shc"]  # which is told as a mistake


@pytest.mark.parametrize("number", ["80", "0.5", "40k", "1.5M", "30dB", "75%", "-3"])
def test_a_number_is_no_input(tree: Path, number: str) -> None:
    for call in (planned_for, decoded_for, lambda *paths: gather_shc(paths)):
        for paths in ((number, "pics/a.JPG"), ("pics/a.JPG", number), (number,)):
            with pytest.raises(UsageError, match=f"no file {number}; a number goes right after its option"):
                call(*paths)
    Path(number).touch()
    assert planned_for("./x.png", number, "pics/a.JPG").jobs[1].source == number


def test_a_file_as_the_folder(tree: Path) -> None:
    def single(planned: Plan) -> tuple[str, str]:
        (job,) = planned.jobs
        assert planned.folder is None
        return job.source, job.target

    assert single(planned_for("pics/a.JPG", folder="new.shc")) == ("pics/a.JPG", "new.shc")
    assert single(planned_for("-", folder="new.shc")) == ("-", "new.shc")
    assert single(planned_for("pics/a.JPG", folder="-")) == ("pics/a.JPG", "-")
    assert single(decoded_for("pics/g.shc", folder="new.WEBP")) == ("pics/g.shc", "new.WEBP")
    assert single(decoded_for("pics/g.shc", folder="pics/notes.txt")) == ("pics/g.shc", "pics/notes.txt")
    for paths in (("pics/a.JPG", "pics/b.png"), ("pics",), ("pics/*.png",)):
        with pytest.raises(UsageError, match=r"several inputs|is a file for 2 inputs"):
            planned_for(*paths, folder="new.shc")
    Path("old.shc").mkdir()
    assert [job.target for job in planned_for("pics/a.JPG", folder="old.shc").jobs] == ["old.shc/a.shc"]


def test_words_that_may_be_outputs(tree: Path) -> None:
    """Nothing is encoded before it is known what was meant."""
    for paths in (("pics/a.JPG", "pics/sub"), ("pics/a.JPG", "pics/b.png", "empty")):
        with pytest.raises(UsageError, match=rf"{paths[-1]} is a folder: -o {paths[-1]} puts outputs there"):
            planned_for(*paths)
        assert planned_for(*paths, folder="out").jobs
    assert len(planned_for("pics/sub", "pics/a.JPG").jobs) == 3
    for word in ("out.avif", "best", "pics/nowhere.png"):
        with pytest.raises(UsageError, match=f"no file {word} to encode; an output ends in .shc"):
            planned_for("pics/a.JPG", word)
        assert len(planned_for("pics/a.JPG", "pics/b.png", word).jobs) == 3
    with pytest.raises(UsageError, match=r"no file b\.shc to decode; an output is called like a picture"):
        decoded_for("pics/g.shc", "b.shc")


def test_streams_as_outputs(tree: Path) -> None:
    os.mkfifo("pipe")
    for name, target in (("/dev/stdout", "-"), ("/dev/fd/1", "-"), ("/dev/fd/7", "/dev/fd/7"), ("pipe", "pipe")):
        for planned in (planned_for("pics/a.JPG", name), planned_for("pics/a.JPG", folder=name)):
            assert [(job.source, job.target) for job in planned.jobs] == [("pics/a.JPG", target)]
    assert planned_for("/dev/stdin").jobs == planned_for("-").jobs


def test_a_whole_command(shc: Shc, tiny_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("pics/a.png", "pics/sub/a.png", "pics/sub/b.bmp", "pics/sub/b.png"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(make_photo(20, 30)).save(name)
    outcome = shc("encode", "-m", tiny_model, "pics", "-o", "out")
    assert outcome.code == 0
    assert outcome.err.startswith("shc: note: 2 inputs differ in nothing but their suffix")
    names = ["a", "sub/a", "sub/b.bmp", "sub/b.png"]
    assert sorted(path.as_posix() for path in Path("out").rglob("*.shc")) == [f"out/{name}.shc" for name in names]
    again = shc("encode", "-m", tiny_model, "pics", "-o", "out", "--skip-existing", "-j", 2)
    assert (again.code, again.out) == (0, "")
    assert again.err.endswith("shc: note: 4 left out, as their outputs are there already\n")
    outcome = shc("verify", "out")
    assert (outcome.code, outcome.out) == (0, "".join(f"out/{name}.shc OK\n" for name in names))
    assert outcome.err.startswith("shc: 4 files, ")
    assert shc("decode", "out/**/*.shc", "-o", "back").code == 0
    assert sorted(path.as_posix() for path in Path("back").rglob("*.png")) == [f"back/{name}.png" for name in names]
