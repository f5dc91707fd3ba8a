"""benchmarks/netpack: reading CIFAR-10, the network, the methods to compare with, and a rehearsal of the commands."""

from __future__ import annotations

import json
import pickle
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import GOLDEN, ROOT
from PIL import Image
from scripts import importable

torch = pytest.importorskip("torch")
pytest.importorskip("matplotlib")

from shcodec.model.networks import Model  # noqa: E402
from shcodec.support.errors import UsageError  # noqa: E402
from shcodec.symbols.knots import KNOTS  # noqa: E402

FOLDER = ROOT / "benchmarks" / "netpack"


@pytest.fixture(autouse=True)
def scripts() -> Iterator[None]:
    with importable(FOLDER):
        yield


def pictures(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the generated pictures (n, 3, 32, 32) whose brightness depends on their labels."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 10, n).astype(np.uint8)
    noise = rng.normal(0, 20, (n, 3, 32, 32))
    return np.clip(20 + 22 * labels[:, None, None, None] + noise, 0, 255).astype(np.uint8), labels


def write_binary(folder: Path, sizes: tuple[int, ...] = (200, 56, 100)) -> Path:
    folder.mkdir()
    for seed, (name, n) in enumerate(zip(("data_batch_1", "data_batch_2", "test_batch"), sizes, strict=True), 1):
        images, labels = pictures(n, seed)
        rows = np.concatenate([labels[:, None], images.reshape(n, -1)], axis=1)
        (folder / f"{name}.bin").write_bytes(rows.tobytes())
    return folder


def write_sprites(folder: Path) -> Path:
    folder.mkdir()
    for name, n, seed, listed in (("data_batch_1", 30, 1, "train"), ("test_batch", 20, 3, "test")):
        images, labels = pictures(n, seed)
        rows = images.transpose(0, 2, 3, 1).reshape(n, 1024, 3)
        Image.fromarray(rows).save(folder / f"{name}.png")
        (folder / f"{listed}_lables.json").write_text(json.dumps(labels.tolist()), encoding="utf-8")
    return folder


def archived(folder: Path, kind: str) -> Path:
    path = folder.parent / f"data.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as file:
            for item in folder.iterdir():
                file.write(item, f"cifar/{item.name}")
    else:
        with tarfile.open(path, "w:gz") as file:
            file.add(folder, "cifar")
    return path


@pytest.mark.parametrize("kind", ["folder", "zip", "tar.gz"])
@pytest.mark.parametrize("form", ["binary", "sprites"])
def test_both_forms_are_read(tmp_path: Path, kind: str, form: str) -> None:
    folder = (write_binary if form == "binary" else write_sprites)(tmp_path / "data")
    source = folder if kind == "folder" else archived(folder, kind)
    found = import_module("cifar").read_cifar(source, "test")
    images, labels = pictures(100 if form == "binary" else 20, 3)
    np.testing.assert_array_equal(found.images.numpy(), images)
    np.testing.assert_array_equal(found.labels.numpy(), labels)
    assert len(import_module("cifar").read_cifar(source, "train")) == (256 if form == "binary" else 30)


def test_what_is_no_cifar(tmp_path: Path) -> None:
    read_cifar = import_module("cifar").read_cifar
    with pytest.raises(UsageError, match="neither"):
        read_cifar(tmp_path / "none", "train")
    (tmp_path / "data_batch_1").write_bytes(pickle.dumps({b"data": []}))
    with pytest.raises(UsageError, match="known form"):
        read_cifar(tmp_path, "train")
    for content, word in ((b"\0" * 100, "bytes"), (b"\x0a" + bytes(3072), "labels")):
        (tmp_path / "data_batch_1.bin").write_bytes(content)
        with pytest.raises(UsageError, match=word):
            read_cifar(tmp_path, "train")
    sprites = write_sprites(tmp_path / "sprites")
    for labels in ("[1, 2]", "[10]", "{}", "!"):
        (sprites / "test_lables.json").write_text(labels, encoding="utf-8")
        with pytest.raises(UsageError, match="label"):
            read_cifar(sprites, "test")
    (sprites / "test_lables.json").unlink()
    with pytest.raises(UsageError, match="is not"):
        read_cifar(sprites, "test")


def test_augmentation_crops_and_flips() -> None:
    cifar = import_module("cifar")
    images = torch.arange(2 * 3 * 32 * 32).float().view(2, 3, 32, 32)
    still = cifar.augmented(images, torch.tensor([4, 4]), torch.tensor([4, 4]), torch.tensor([False, True]))
    torch.testing.assert_close(still[0], images[0])
    torch.testing.assert_close(still[1], images[1].flip(2))
    moved = cifar.augmented(images, torch.tensor([0, 8]), torch.tensor([4, 4]), torch.tensor([False, False]))
    torch.testing.assert_close(moved[0, :, 4:], images[0, :, :-4])
    assert not moved[0, :, :4].any()
    torch.testing.assert_close(moved[1, :, :-4], images[1, :, 4:])


def test_epochs_depend_on_their_number_alone(tmp_path: Path) -> None:
    cifar = import_module("cifar")
    epochs = cifar.Epochs(cifar.read_cifar(write_binary(tmp_path / "data"), "train"), size=50)
    whole = list(epochs.epoch(3))
    late = list(epochs.epoch(3, start=3))
    assert len(whole) == len(epochs) == 5 and len(late) == 2
    torch.testing.assert_close(whole[3][0], late[0][0])
    assert not torch.equal(whole[0][0], next(epochs.epoch(4))[0])


def test_the_network_is_that_of_the_paper() -> None:
    resnet = import_module("resnet")
    model = resnet.ResNet32()
    assert sum(p.numel() for p in model.parameters()) == resnet.PARAMETERS == 464_154
    assert sum(isinstance(m, (torch.nn.Conv2d, torch.nn.Linear)) for m in model.modules()) == 32
    assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


def test_huffman_lengths_are_best() -> None:
    lengths = import_module("deep_compression").huffman_lengths
    assert lengths(np.array([4, 2, 1, 1, 0])).tolist() == [1, 2, 3, 3, 0]
    assert lengths(np.array([0, 7])).tolist() == [0, 1]
    counts = np.random.default_rng(1).integers(1, 100, 40)
    found = lengths(counts)
    assert (0.5**found).sum() == 1.0
    p = counts / counts.sum()
    assert -(p * np.log2(p)).sum() <= (p * found).sum() <= -(p * np.log2(p)).sum() + 1


def test_pruning_keeps_its_share() -> None:
    deep = import_module("deep_compression")
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(20, 50), torch.nn.ReLU(), torch.nn.Linear(50, 10))
    x, y = torch.randn(64, 20), torch.randint(0, 10, (64,))

    def batches() -> Iterator[tuple[object, object]]:
        while True:
            yield x, y

    def loss(model: Any, batch: tuple[Any, Any]) -> object:
        return torch.nn.functional.cross_entropy(model(batch[0]), batch[1])

    deep.prune(model, loss, batches(), kept=0.2, steps=20, lr=0.01)
    weights = torch.cat([p.detach().flatten() for p in deep.prunable(model).values()])
    assert int((weights != 0).sum()) == pytest.approx(0.2 * len(weights), abs=2)
    shared = deep.share_weights(model, loss, batches(), bits=3, steps=5, lr=1e-3)
    for name, p in deep.prunable(model).items():
        assert len(torch.unique(p[p != 0])) <= 8
        assert ((shared[name][0] < 0) == (p.detach().flatten().numpy() == 0)).all()
    assert 300 < deep.file_bytes(model, shared) < 1000


def test_a_rehearsal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Two steps of training with a break between them, and a sweep of one setting each."""
    data, out = write_binary(tmp_path / "data", (24, 8, 20)), tmp_path / "out"

    def command(name: str, *arguments: object) -> str:
        monkeypatch.setattr(sys, "argv", [name, "--data", str(data), "--out", str(out), *map(str, arguments)])
        capsys.readouterr()
        import_module(name).main()
        return capsys.readouterr().out

    assert "stopped at step 1 of 2" in command("train", "--epochs", 2, "--stop-after", 1)
    assert "after 2 steps" in command("train", "--epochs", 2, "--resume")
    facts = json.loads((out / "baseline.json").read_text("utf-8"))
    assert facts["steps"] == 2 and [side for _, side in facts["sides"]] == [20, 24, 32]
    assert "after 1 steps" in command("train", "--epochs", 1, "--full-size")
    assert json.loads((out / "baseline.json").read_text("utf-8"))["sides"] == [[1.0, 32]]
    short = ("--soft-steps", 2, "--hard-steps", 1, "--methods")
    assert "soft-to-hard 0.1" in command("sweep", *short, "soft-to-hard", "--settings", 0.1)
    assert command("sweep", *short, "soft-to-hard", "--settings", 0.1) == ""
    assert "soft-to-hard 0.1" in command("sweep", "--lr", 3e-4, *short, "soft-to-hard", "--settings", 0.1)
    assert "soft-to-hard 0.1" in command("sweep", "--distil", *short, "soft-to-hard", "--settings", 0.1)
    assert "uniform, same coder 1" in command("sweep", *short, "uniform, same coder", "--settings", 1)
    rows = json.loads((out / "sweep.json").read_text("utf-8"))["rows"]
    assert [row["method"] for row in rows][:4] == [*["soft-to-hard"] * 3, "uniform, same coder"]
    plain = "2 + 1 steps of 64, lr 0.0005"
    assert [row["training"] for row in rows][:4] == [plain, "2 + 1 steps of 64, lr 0.0003", f"{plain}, distilled", ""]
    assert (out / "compressed-0.1-2-1-64-0.0005.shcn").stat().st_size == rows[0]["bytes"]
    assert (out / "sweep.png").exists() and (out / "sweep.csv").read_text("utf-8").startswith("method,setting")


def test_post_training_on_small_matrices(tmp_path: Path) -> None:
    post = import_module("post_training")
    name, tensors = next(post.made_up(64))
    row = post.measure(name, tensors, 4.0, 1)
    assert row.weights == 4096 and 0.7 < row.over_scalar < 1.7


def test_own_weights_are_models_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = GOLDEN / "model"
    monkeypatch.setattr(sys, "argv", ["own_weights", str(source), "--out", str(tmp_path), "--sqnr", "40"])
    import_module("own_weights").main()
    assert capsys.readouterr().out.splitlines()[-1].startswith("| 40 dB | ")
    whole, packed = Model(tmp_path / "whole"), Model(tmp_path / "packed-40")
    assert whole.id == Model(source).id != packed.id
    for model in (whole, packed):
        model.open_networks()
        assert model.encoder_rate_weight.shape == (KNOTS,)
