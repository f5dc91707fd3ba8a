"""Compressing your own network: train it as usual, then let it adapt to its codebook, then pack it.

python benchmarks/netpack/example.py
"""

import torch
from torch import Tensor, nn

from shcodec import netpack

torch.manual_seed(0)
pictures, labels = torch.rand(512, 64), torch.randint(0, 10, (512,))
batches = list(zip(torch.split(pictures, 64), torch.split(labels, 64), strict=True))
model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))


def loss_fn(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Return the loss of your task."""
    return nn.functional.cross_entropy(model(batch[0]), batch[1])


def accuracy(model: nn.Module) -> float:
    """Return what you measure of the finished network."""
    return float((model(pictures).argmax(1) == labels).float().mean())


config = netpack.CompressConfig(soft_steps=100, hard_steps=30)
done = netpack.compress(model, loss_fn, batches, beta=0.05, config=config, accuracy=accuracy)
print(f"{len(done.data):,} bytes, {done.bits:.2f} bits per weight, accuracy {done.accuracy:.3f}")

weights = netpack.unpack(done.data)  # anywhere, without torch
model.load_state_dict({name: torch.from_numpy(array) for name, array in weights.items()})
