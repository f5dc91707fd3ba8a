"""Where a training begins: at a shipped model, of the same architecture or enlarged to the configuration's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from torch import Tensor

from shcodec.train.export import architecture, load_model
from shcodec.train.grow import is_smaller, load_smaller
from shcodec.train.objective import Learner
from shcodec.train.widen import is_narrower, load_narrower


def start_from_model(learner: Learner, folder: Path, blocks: Callable[[], Tensor]) -> None:
    """Takes the weights of a shipped model; one with fewer latent channels or smaller transforms is enlarged.

    Args:
        learner: freshly made.
        folder: of the model.
        blocks: (n, 3, 64, 64) crops of training pictures, 0..255; called where new channels are fitted to them.

    Raises:
        ModelError: the folder is not a whole model.
        UsageError: its architecture is another.
    """
    theirs, ours = architecture(folder), learner.config.model
    if is_narrower(theirs, ours):
        load_narrower(learner, folder, theirs, blocks())
    elif is_smaller(theirs, ours):
        load_smaller(learner, folder, theirs)
    else:
        load_model(learner, folder)
