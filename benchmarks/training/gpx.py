"""What more training brings: fits a stable phase's validation loss against the pixels that it has seen, and draws it.

    python benchmarks/training/gpx.py benchmarks/training/stable/validation.csv [--before 50] [--from 0] [--next 100]

The loss is taken to fall by the same share with every doubling of all pixels that went through the encoder, those of
earlier trainings (`--before`, in Gpx = 10^9 pixels) included: log2(loss) = a - b log2(before + Gpx), fitted by least
squares. Writes a plot beside the log, and says what the next Gpx should bring, with the error that the scatter of the
points gives; a fit to less than a doubling says little about the next one.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from shcodec.cli.console import run_script
from shcodec.support.errors import UsageError
from shcodec.support.plots import save_png

LEAST = 3  # points that a fit needs


@dataclass(frozen=True)
class Fit:
    """log2(loss) = start - slope log2(Gpx), Gpx those of all trainings.

    Attributes:
        start, slope: of the line.
        error: standard error of the slope.
    """

    start: float
    slope: float
    error: float

    def loss(self, gpx: float | npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return the loss after so many Gpx in all."""
        return np.asarray(2.0 ** (self.start - self.slope * np.log2(gpx)))

    def change(self, now: float, later: float) -> tuple[float, float]:
        """Return the change of the loss in per cent between two Gpx, and its standard error."""
        doublings = float(np.log2(later / now))
        change = 2.0 ** (-self.slope * doublings)
        return 100 * (change - 1), 100 * change * self.error * doublings * float(np.log(2))


def read(path: Path) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Read Gpx and loss of a `validation.csv`; raises UsageError if it is none."""
    try:
        with path.open(newline="") as stream:
            rows = [(float(row["gpx"]), float(row["loss"])) for row in csv.DictReader(stream)]
    except (KeyError, TypeError, ValueError, UnicodeDecodeError):
        raise UsageError(f"{path}: not the validation log of a training") from None
    table = np.array(rows, np.float64).reshape(-1, 2)
    return table[:, 0], table[:, 1]


def fit(gpx: npt.NDArray[np.float64], loss: npt.NDArray[np.float64]) -> Fit:
    """Fit by least squares in logarithms; raises UsageError for too few points."""
    if len(gpx) < LEAST or np.ptp(gpx) <= 0 or gpx.min() <= 0:
        raise UsageError(f"{len(gpx)} points are not enough for a fit, which needs {LEAST} at different Gpx above 0")
    x, y = np.log2(gpx), np.log2(loss)
    slope, start = np.polyfit(x, y, 1)
    scatter = np.square(y - start - slope * x).sum() / (len(x) - 2)
    error = float(np.sqrt(scatter / np.square(x - x.mean()).sum()))
    return Fit(float(start), -float(slope), error)


def draw(path: Path, gpx: npt.NDArray[np.float64], loss: npt.NDArray[np.float64], line: Fit, later: float) -> None:
    """Draw points and fit, as far as `later` Gpx."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(7, 4.2), constrained_layout=True)
    along = np.geomspace(gpx.min(), later)
    axis.plot(along, line.loss(along), color="tab:orange", label=f"{100 * (2**-line.slope - 1):+.1f} % a doubling")
    axis.plot(gpx, loss, ".", color="tab:blue", label="measured")
    axis.set_xscale("log")
    axis.set_xlabel("Gpx through the encoder, all trainings")
    axis.set_ylabel("smooth loss on the validation pictures")
    axis.grid(alpha=0.3, which="both")
    axis.legend()
    save_png(figure, path, dpi=90)
    plt.close(figure)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the script."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("log", type=Path, help="validation.csv of a stable phase")
    parser.add_argument("--before", type=float, default=50.0, help="Gpx of the trainings that it began from")
    parser.add_argument("--from", dest="first", type=float, default=0.0, help="leave out what came before these Gpx")
    parser.add_argument("--next", dest="ahead", type=float, default=100.0, help="Gpx to look ahead")
    parser.add_argument("--out", type=Path, help="plot; beside the log by default")
    options = parser.parse_args(argv)
    gpx, loss = read(options.log)
    kept = gpx >= options.first
    seen, loss = gpx[kept] + options.before, loss[kept]
    line = fit(seen, loss)
    now, later = float(seen.max()), float(seen.max()) + options.ahead
    change, error = line.change(now, later)
    draw(options.out or options.log.with_suffix(".png"), seen, loss, line, later)
    print(f"{len(seen)} points from {seen.min():.2f} to {now:.2f} Gpx, loss {loss[0]:.3f} to {loss[-1]:.3f}")
    print(f"a doubling of Gpx changes the loss by {100 * (2**-line.slope - 1):+.2f} %")
    print(f"the next {options.ahead:g} Gpx should change it by {change:+.2f} % (standard error {error:.2f})")


if __name__ == "__main__":
    run_script(main)
