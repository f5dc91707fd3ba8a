"""The codecs: whole files there and back, and agreement with measurements made elsewhere."""

from __future__ import annotations

import csv
import pickle
from pathlib import Path

import numpy as np
import pytest
from conftest import make_photo
from PIL import Image, JpegImagePlugin

pytest.importorskip("pytorch_msssim", reason="needs the extra 'bench'")

from shcodec.bench import external_codecs, metrics
from shcodec.bench.bd_rate import bd_rate, curve
from shcodec.bench.cells import stored_cells
from shcodec.bench.codecs import OTHER_CODECS, Codec, select_codecs
from shcodec.support.errors import ShcError, UsageError

REFERENCE = Path(__file__).resolve().parent / "reference"
SIGNATURES = {"jpeg420": b"\xff\xd8", "jpeg444": b"\xff\xd8", "j2k": b"\0\0\0\x0cjP", "webp": b"RIFF"}


def available(codec: Codec) -> Codec:
    """Return the codec, or a skipped test where it is not installed."""
    try:
        codec.version()
    except ShcError as error:
        pytest.skip(str(error))
    return codec


def by_name(name: str) -> Codec:
    return next(codec for codec in OTHER_CODECS if codec.name == name)


@pytest.mark.parametrize("name", [codec.name for codec in OTHER_CODECS])
@pytest.mark.parametrize("size", [(64, 96), (61, 83)])
def test_there_and_back(name: str, size: tuple[int, int]) -> None:
    codec = available(by_name(name))
    photo = make_photo(*size)
    finest = max(codec.settings, key=lambda setting: len(codec.encode(photo, setting)))
    data = codec.encode(photo, finest)
    decoded = codec.decode(data)
    assert decoded.shape == photo.shape
    assert decoded.dtype == np.uint8
    assert metrics.psnr(photo, decoded) > 30
    assert data.startswith(SIGNATURES.get(name, b""))
    assert len(data) < photo.size


@pytest.mark.parametrize("name", [codec.name for codec in OTHER_CODECS])
def test_fit_for_a_worker_process(name: str) -> None:
    codec = by_name(name)
    assert pickle.loads(pickle.dumps(codec)) == codec
    assert hash(codec) == hash(pickle.loads(pickle.dumps(codec)))
    assert "setting = " in codec.describe()
    assert len(set(codec.settings)) == len(codec.settings)


def test_chroma_subsampling_is_what_the_name_says() -> None:
    import io

    for name, sampling in (("jpeg420", (2, 2)), ("jpeg444", (1, 1))):
        with Image.open(io.BytesIO(by_name(name).encode(make_photo(32, 32), 50))) as image:
            assert isinstance(image, JpegImagePlugin.JpegImageFile)
            assert image.layer[0][1:3] == sampling


def test_jpeg_2000_meets_its_rate() -> None:
    photo = make_photo(256, 256)
    for bpp in (0.25, 1.0):
        assert 8 * len(by_name("j2k").encode(photo, bpp)) / (256 * 256) == pytest.approx(bpp, rel=0.1)


def test_choosing_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    from shcodec.model import zoo

    monkeypatch.setattr(zoo, "model_names", lambda: ["fast", "sha"])
    chosen = select_codecs(["webp", "shc", "webp", "shc-sha"], [15, 50])
    assert [codec.name for codec in chosen] == ["webp", "shc-fast", "shc-sha"]
    assert chosen[1].settings == (15, 50)
    assert [codec.name for codec in select_codecs()][:3] == ["shc-fast", "shc-sha", "jpeg420"]
    with pytest.raises(UsageError, match="no codec 'shc-best': known are shc, shc-fast, shc-sha, jpeg420"):
        select_codecs(["shc-best"])
    with pytest.raises(UsageError, match="no codec to measure"):
        select_codecs([])
    harder = select_codecs(["shc-sha-e6"], [50])[0]
    assert (harder.name, harder.settings) == ("shc-sha-e6", (50,)) and "effort 6" in harder.describe()
    for wrong in ("shc-sha-e10", "shc-best-e4", "jpeg420-e4", "shc-sha-e"):
        with pytest.raises(UsageError, match=f"no codec '{wrong}'"):
            select_codecs([wrong])


def test_a_program_that_is_not_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ShcError, match="bpgenc is not on the PATH"):
        by_name("bpg444").version()


def test_bpg_programs_are_run_as_documented(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Stand-ins for the programs: the "encoder" copies its input and notes its arguments, the "decoder" copies back.
    for name, body in (
        ("bpgenc", f'echo "$@" > {tmp_path}/arguments\nfor last; do :; done\ncp "$last" "${{12}}"'),
        ("bpgdec", 'cp "$3" "$2"'),
    ):
        program = tmp_path / name
        program.write_text(f"#!/bin/sh\n{body}\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    photo = make_photo(16, 24)
    codec = by_name("bpg444")
    assert np.array_equal(codec.decode(codec.encode(photo, 37)), photo)
    assert (tmp_path / "arguments").read_text().startswith("-f 444 -e x265 -c ycbcr -b 8 -q 37 -o ")
    with pytest.raises(ShcError, match=r"false failed \(1\): no message"):
        external_codecs._run_program(["false"])


def test_shc_is_one_of_the_codecs(tiny_model: str) -> None:
    codec = available(select_codecs([f"shc-{tiny_model}"])[0])
    photo = make_photo(61, 83)
    assert codec.decode(codec.encode(photo, 50.0)).shape == photo.shape
    assert codec.encode(photo, 50.0) != available(select_codecs([f"shc-{tiny_model}-e4"])[0]).encode(photo, 50.0)
    assert "model id" in codec.version()


@pytest.mark.parametrize("name", ["jpeg420", "jpeg444", "j2k"])
def test_agreement_with_measurements_made_elsewhere(name: str, shc_data: Path) -> None:
    with (REFERENCE / f"kodak-{name}.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for image in {row["image"] for row in rows}:
        picture = np.asarray(Image.open(shc_data / "kodak" / f"{image}.webp").convert("RGB"))
        theirs = [row for row in rows if row["image"] == image and float(row["setting"]) in by_name(name).settings]
        files = [by_name(name).encode(picture, float(row["setting"])) for row in theirs]
        psnrs = [metrics.psnr(picture, by_name(name).decode(file)) for file in files]
        reference = curve([float(row["bytes"]) for row in theirs], [float(row["psnr"]) for row in theirs])
        result = bd_rate(reference, curve([len(file) for file in files], psnrs))
        assert result is not None
        assert abs(result.percent) < 2
        similarity = metrics.ms_ssim(picture, by_name(name).decode(files[-1]))
        assert similarity == pytest.approx(float(theirs[-1]["ms_ssim"]), abs=2e-3)


def test_stored_bpg_agrees_with_the_published_curve() -> None:
    # CompressAI 1.2.9, results/image/kodak/bpg_444_x265_ycbcr.json: means over Kodak at QP 47, 42, 37, 32, 27, 22.
    published = (
        [0.067768, 0.161023, 0.351554, 0.684697, 1.199665, 1.929712],
        [26.19513, 28.68155, 31.59466, 34.85747, 38.25989, 41.47887],
    )
    cells = stored_cells("kodak", "bpg444", [f"kodim{number:02}" for number in range(1, 25)])
    rates, qualities = [], []
    for qp in (47, 42, 37, 32, 27, 22):
        at = [cell for cell in cells if cell.setting == qp]
        assert len(at) == 24
        rates.append(float(np.mean([cell.bpp for cell in at])))
        qualities.append(float(np.mean([cell.psnr for cell in at])))
    result = bd_rate(curve(*published), curve(rates, qualities))
    assert result is not None
    assert abs(result.percent) < 0.1


def test_stored_measurements_of_other_sets_and_codecs() -> None:
    assert len(stored_cells("b100", "bpg444", ["101085", "nowhere"])) == 8
    assert len(stored_cells("urban100", "bpg444", ["img_001"])) == 6
    assert stored_cells("kodak", "jpeg420", ["kodim01"]) == []
    assert stored_cells("holiday", "bpg444", ["kodim01"]) == []
