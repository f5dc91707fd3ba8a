"""Folders and patterns as inputs: what is found, where the outputs go, what clashes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from conftest import Shc, make_photo
from PIL import Image

from shcodec.cli.files import Plan, plan
from shcodec.cli.inputs import gather, gather_shc, is_picture, is_shc
from shcodec.errors import UsageError


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of empty files: pictures, hidden ones, other files, and a link that leads round in a circle."""
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
    assert names("pics/*.png", "pics") == ["pics/b.png", "pics/a.JPG", "pics/sub/c.webp", "pics/sub/deep/d.tif"]
    assert names("pics", "pics/b.png") == ["pics/a.JPG", "pics/sub/c.webp", "pics/sub/deep/d.tif", "pics/b.png"]


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
    Path("pics/b.jpg").touch()
    Path("pics/b.webp").touch()
    Path("pics/sub/c.shc").mkdir()
    planned = planned_for("pics")
    assert [job.source for job in planned.jobs] == ["pics/a.JPG", "pics/sub/deep/d.tif"]
    assert planned.problems == (
        "pics/b.jpg, pics/b.png and pics/b.webp have the same output pics/b.shc",
        "the output pics/sub/c.shc is a folder (-o DIR puts outputs there)",
    )
    with pytest.raises(UsageError, match="have the same output"):
        planned_for("pics/b.png", "pics/b.jpg", folder="out")


def test_a_whole_command(shc: Shc, tiny_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("pics/a.png", "pics/sub/a.png", "pics/sub/b.bmp", "pics/sub/b.png"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(make_photo(20, 30)).save(name)
    outcome = shc("encode", "-m", tiny_model, "pics", "-o", "out")
    assert outcome.code == 1
    error, totals = outcome.err.splitlines()
    assert error == "shc: error: pics/sub/b.bmp and pics/sub/b.png have the same output out/sub/b.shc"
    assert totals.startswith("shc: 2 files, ")
    assert sorted(path.as_posix() for path in Path("out").rglob("*.shc")) == ["out/a.shc", "out/sub/a.shc"]
    outcome = shc("verify", "out")
    assert (outcome.code, outcome.out) == (0, "out/a.shc OK\nout/sub/a.shc OK\n")
    assert shc("decode", "out/**/*.shc", "-o", "back").code == 0
    assert sorted(path.as_posix() for path in Path("back").rglob("*.png")) == ["back/a.png", "back/sub/a.png"]
