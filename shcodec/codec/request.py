"""What is wanted of a file: the only place that checks the values and which of them exclude each other.

Light on purpose: worker processes unpickle a request before they settle on how many threads numpy may start.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING

from shcodec.codec.effort import effort_of
from shcodec.codec.quality import DEFAULT_BETA, beta_of
from shcodec.container import beta_to_byte
from shcodec.support.errors import UsageError
from shcodec.support.limits import MAX_PIXELS

if TYPE_CHECKING:
    from shcodec.model.networks import Model


class ContradictionError(UsageError):
    """Two of the values exclude each other."""


@dataclass(frozen=True)
class Request:
    """What is wanted of a file; of beta, quality, size, bpp and psnr at most one, without any beta 50.

    Attributes:
        model: name of an installed model, or a loaded one.
        beta: 2 (largest file) to 4096.
        quality: the same from 0 (smallest file) to 100.
        size: bytes of the whole file, at most.
        bpp: the same in bits per pixel.
        psnr: dB of the decoded 8-bit picture.
        effort: 0 to 9; None is the default.
        strict: whether to fail where a size or a PSNR cannot be met.
        strip: whether to leave out metadata.
        max_pixels: larger pictures are refused.

    Raises:
        UsageError: a value is out of range or no number, or two exclude each other (`ContradictionError`).
        MissingExtraError: the effort needs torch, which is not installed.
    """

    model: str | Model
    beta: float | None = None
    quality: float | None = None
    size: int | None = None
    bpp: float | None = None
    psnr: float | None = None
    effort: int | None = None
    strict: bool = False
    strip: bool = False
    max_pixels: int = MAX_PIXELS

    def __post_init__(self) -> None:
        """Check everything."""
        rivals = {name: getattr(self, name) for name in ("beta", "quality", "size", "bpp", "psnr")}
        given = {name: value for name, value in rivals.items() if value is not None}
        if len(given) > 1:
            raise ContradictionError(f"{' and '.join(given)} exclude each other")
        for name, value in given.items():
            if not isinstance(value, Real):
                raise UsageError(f"{name} must be a number, not {value!r}")
        if self.wanted_beta is not None:
            beta_to_byte(self.wanted_beta)
        else:
            target = next(iter(given.values()))
            if not (math.isfinite(target) and target > 0):
                raise UsageError(f"what is wanted must be a positive number, not {target:g}")
        effort_of(self.effort)

    @property
    def wanted_beta(self) -> float | None:
        """Return the beta that is asked for, as such or as a quality; None where a size or a PSNR is the target."""
        if self.quality is not None:
            return beta_of(self.quality)
        return DEFAULT_BETA if (self.beta, self.size, self.bpp, self.psnr) == (None,) * 4 else self.beta
