"""Training for compression: what is packed is what was evaluated, it is small, and a broken run goes on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT

torch = pytest.importorskip("torch")

from torch import Tensor, nn  # noqa: E402

from shcodec import netpack  # noqa: E402
from shcodec.netpack.training.annealing import Annealing  # noqa: E402
from shcodec.netpack.training.compress import CompressConfig, compress  # noqa: E402
from shcodec.netpack.training.scalar_assignment import NEIGHBOURS, Assignment, Surroundings  # noqa: E402
from shcodec.netpack.training.soft_codebook import SoftCodebook, WordConfig  # noqa: E402
from shcodec.support.errors import UsageError  # noqa: E402

Batch = tuple[Tensor, Tensor]


class Small(nn.Module):
    """Convolution, norm, recurrent and tied layers: every way in which a parameter can be held."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(4, 16, 3)
        self.norm = nn.BatchNorm1d(16)
        self.recurrent = nn.GRU(16, 16, batch_first=True)
        self.first, self.second = nn.Linear(16, 16), nn.Linear(16, 16)
        self.second.weight = self.first.weight
        self.head = nn.Linear(16, 20)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.norm(self.conv(x))).transpose(1, 2)
        y = self.recurrent(y)[0].mean(1)
        return self.head(self.second(torch.relu(self.first(y))))  # type: ignore[no-any-return]


def loss_fn(model: nn.Module, batch: Batch) -> Tensor:
    return nn.functional.cross_entropy(model(batch[0]), batch[1])


@pytest.fixture
def batches() -> list[Batch]:
    torch.manual_seed(1)
    x = torch.randn(128, 4, 8)
    return list(zip(x.split(32), (x.abs().mean((1, 2)) * 20).long().clamp(0, 19).split(32), strict=True))


def small() -> Small:
    torch.manual_seed(0)
    return Small()


def quick(**changes: object) -> CompressConfig:
    return CompressConfig(**{"soft_steps": 12, "hard_steps": 6, "save_every": 4, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize("dim", [1, 2, 4])
@pytest.mark.parametrize("rule", ["exponential", "gap"])
def test_the_file_holds_exactly_the_weights_that_were_evaluated(batches: list[Batch], dim: int, rule: str) -> None:
    model, seen = small(), {}

    def accuracy(model: nn.Module) -> float:
        assert not model.training
        seen.update({name: tensor.clone() for name, tensor in model.state_dict().items()})
        return 0.25

    config = quick(words=WordConfig(dim=dim), annealing=Annealing(rule=rule))
    done = compress(model, loss_fn, batches, beta=0.1, config=config, accuracy=accuracy)
    assert done.accuracy == 0.25
    unpacked = netpack.unpack(done.data)
    assert set(unpacked) == set(seen) == set(model.state_dict())
    for name, array in unpacked.items():
        assert array.tobytes() == seen[name].numpy().tobytes() == model.state_dict()[name].numpy().tobytes(), name
    codings = {tensor.name: tensor.coding for tensor in done.report.tensors}
    assert codings["recurrent.weight_ih_l0"] == codings["second.weight"] == "codebook"
    assert codings["conv.weight"] == "kept"  # too small
    assert model.second.weight is model.first.weight


def test_beta_trades_bits_for_loss(batches: list[Batch]) -> None:
    bits, losses = [], []
    for beta in (0.0, 3.0):
        model = small()
        done = compress(model, loss_fn, batches, beta=beta, config=quick(soft_steps=150, hard_steps=10, lr=5e-3))
        bits.append(done.bits)
        losses.append(sum(loss_fn(model, batch).item() for batch in batches))
    assert bits[1] < 0.7 * bits[0]
    assert losses[0] < losses[1]


def test_a_run_that_was_broken_off_goes_on(batches: list[Batch], tmp_path: Path) -> None:
    path = tmp_path / "run.pt"
    whole = compress(small(), loss_fn, batches, beta=0.1, config=quick())

    def break_off(what: str, done: int, total: int) -> None:
        assert (what, total) == ("compressing", 18)
        if done == 9:
            raise KeyboardInterrupt

    model = small()
    with pytest.raises(KeyboardInterrupt):
        compress(model, loss_fn, batches, beta=0.1, config=quick(), checkpoint=path, report=break_off)
    assert dict(model.named_parameters()).keys() == dict(small().named_parameters()).keys()
    steps: list[int] = []
    done = compress(
        small(),
        loss_fn,
        batches,
        beta=0.1,
        config=quick(),
        checkpoint=path,
        report=lambda what, done, total: steps.append(done),
    )
    # Eight steps are two rounds of the batches, so that nothing differs from the run in one piece.
    assert steps == list(range(9, 19))
    assert done.data == whole.data
    with pytest.raises(UsageError, match="another configuration"):
        compress(small(), loss_fn, batches, beta=0.2, config=quick(), checkpoint=path)


def test_what_is_no_checkpoint(batches: list[Batch], tmp_path: Path) -> None:
    path = tmp_path / "run.pt"
    path.write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    with pytest.raises(UsageError, match="not a readable checkpoint"):
        compress(small(), loss_fn, batches, beta=0.1, config=quick(), checkpoint=path)


def test_what_configures_a_run_is_found_in_the_package() -> None:
    assert (netpack.CompressConfig, netpack.WordConfig, netpack.Annealing) == (CompressConfig, WordConfig, Annealing)
    assert all(getattr(netpack, name) for name in netpack.__all__)


def test_wrong_usage(batches: list[Batch]) -> None:
    with pytest.raises(UsageError, match="beta"):
        compress(small(), loss_fn, batches, beta=-1.0)
    with pytest.raises(UsageError, match="no batches"):
        compress(small(), loss_fn, [], beta=0.1)
    with pytest.raises(UsageError, match="only once"):
        compress(small(), loss_fn, iter(batches), beta=0.1, config=quick())
    with pytest.raises(UsageError, match="no parameter"):
        compress(nn.Linear(2, 2), loss_fn, batches, beta=0.1)
    with pytest.raises(UsageError, match="float32"):
        compress(small().double(), loss_fn, batches, beta=0.1)
    for wrong in ({"number": 3}, {"dim": 3}, {"spacing": 0.0}, {"weighting": "x"}):
        with pytest.raises(UsageError):
            WordConfig(**wrong)
    for wrong in ({"rule": "x"}, {"start": 0.0}, {"end": 0.5}, {"firm": -0.1}):
        with pytest.raises(UsageError):
            Annealing(**wrong)
    with pytest.raises(UsageError):
        CompressConfig(soft_steps=0)


def test_sigma_rises() -> None:
    by_steps = Annealing(start=2.0, end=8.0)
    assert [by_steps.after(9.0, step, 3) for step in range(3)] == pytest.approx([2.0, 4.0, 8.0])
    by_gap = Annealing(rule="gap", start=1.0, gain=10.0, horizon=100.0)
    assert by_gap.follow(3.0, 0.5, 0.5, 100) == pytest.approx(5.5)
    assert by_gap.follow(3.0, 0.0, 0.5, 100) == 1.0


def test_soft_weights_become_the_hard_ones() -> None:
    torch.manual_seed(2)
    weights = [torch.randn(30, 20), 0.01 * torch.randn(15, 20)]
    codebook = SoftCodebook(weights, WordConfig())
    hard, bits = codebook.nearest(weights)
    soft, soft_bits = codebook.soft(weights, 1e5)
    for one, other in zip(hard, soft, strict=True):
        np.testing.assert_allclose(one.numpy(), other.detach().numpy(), rtol=1e-3, atol=1e-5)
    assert soft_bits.item() == pytest.approx(bits, rel=1e-3)
    with pytest.raises(UsageError):
        codebook.hard()


@pytest.mark.parametrize("dim", [1, 2])
def test_firm_weights_are_codewords_and_gradients_pass_straight_through(dim: int) -> None:
    torch.manual_seed(3)
    weight = torch.randn(30, 20, requires_grad=True)
    codebook = SoftCodebook([weight], WordConfig(dim=dim))
    (hard,), _ = codebook.nearest([weight])
    (firm,), _ = codebook.soft([weight], 3.0, firm=True)
    np.testing.assert_allclose(firm.detach().numpy(), hard.numpy(), atol=1e-6)
    wanted = torch.randn(30, 20)
    to_weight, to_words = torch.autograd.grad((firm * wanted).sum(), [weight, codebook.words])
    np.testing.assert_allclose(to_weight.numpy(), wanted.numpy(), rtol=1e-5)
    index = (hard.view(-1, 1, dim) / codebook.scales[0] - codebook.words.detach()).square().sum(2).argmin(1)
    sums = torch.zeros_like(to_words).index_add_(0, index, wanted.view(-1, dim) * codebook.scales[0])
    torch.testing.assert_close(to_words, sums)


def test_gradients_of_scalars_are_those_of_the_plain_formula() -> None:
    torch.manual_seed(4)
    number = 2 * NEIGHBOURS + 1  # so that all words are looked at
    values = (2 * torch.randn(200, dtype=torch.double)).requires_grad_()
    words = torch.randn(number, dtype=torch.double, requires_grad=True)
    table, rows = 4 * torch.rand(3, number, dtype=torch.double), torch.randint(0, 3, (200,))
    wanted, sigma, spacing, rate_weight = torch.randn(200), 2.0, 0.5, 0.2

    around = Surroundings(values.detach(), words.detach(), table, rows, spacing, rate_weight)
    weights = around.soft(sigma)
    value, bits = Assignment.apply(values, words, around, weights, sigma)  # type: ignore[no-untyped-call]

    costs = ((values[:, None] - words) / spacing).square() + rate_weight * table[rows]
    shares = torch.softmax(-sigma * costs, 1)
    plain, plain_bits = shares @ words, (shares * table[rows]).sum()
    torch.testing.assert_close((value, bits), (plain, plain_bits))
    ours = torch.autograd.grad((wanted * value).sum() + 0.3 * bits, [values, words])
    theirs = torch.autograd.grad((wanted * plain).sum() + 0.3 * plain_bits, [values, words])
    torch.testing.assert_close(ours, theirs)
    counts = torch.zeros(3, number, dtype=torch.double).index_add_(0, rows, shares.detach())
    torch.testing.assert_close(around.counts(weights), counts)


def test_many_scalars_look_at_the_levels_around_them() -> None:
    torch.manual_seed(5)
    values, words = 4 * torch.randn(500), torch.arange(-15, 16).float()[torch.randperm(31)]
    table, rows = 2 * torch.rand(2, 31), torch.randint(0, 2, (500,))
    around = Surroundings(values, words, table, rows, 1.0, 0.1)
    costs = (values[:, None] - words).square() + 0.1 * table[rows]
    torch.testing.assert_close(around.cheapest(), costs.argmin(1))
    counts = torch.bincount(rows * 31 + costs.argmin(1), minlength=62).view(2, 31)
    torch.testing.assert_close(around.counts(around.soft(1e6)), counts.float())


def test_tensors_share_a_spacing_or_have_their_own() -> None:
    torch.manual_seed(6)
    weights = [torch.randn(40, 30), 0.1 * torch.randn(40, 30), 0.1 * torch.randn(40, 30), 30 * torch.randn(4, 4)]
    shared = SoftCodebook(weights[:3], WordConfig()).scales
    assert shared[0] == shared[1] == shared[2] == pytest.approx((1.02 / 3) ** 0.5, rel=0.05)
    own = SoftCodebook(weights[:3], WordConfig(weighting="relative")).scales
    assert own == pytest.approx([1.0, 0.1, 0.1], rel=0.1)
    *_, last = SoftCodebook(weights, WordConfig()).scales
    # The outermost codeword reaches the largest weight.
    assert last == pytest.approx(weights[3].abs().max().item() / 15)


def test_norms_can_be_folded(batches: list[Batch]) -> None:
    answers = {}
    for fold in (False, True):
        model = small()
        config = quick(fold_norms=fold, fine_bits=20)
        data = compress(model, loss_fn, batches, beta=0.1, config=config).data
        restored = Small().eval()
        restored.load_state_dict({name: torch.from_numpy(array) for name, array in netpack.unpack(data).items()})
        answers[fold] = restored(batches[0][0])
        assert (restored.norm.running_mean == 0).all().item() is fold  # type: ignore[union-attr]
    torch.testing.assert_close(answers[True], answers[False], atol=1e-4, rtol=1e-4)


def test_the_example_runs() -> None:
    path = ROOT / "benchmarks" / "netpack" / "example.py"
    done = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, timeout=120, check=True)
    assert "bits per weight" in done.stdout
