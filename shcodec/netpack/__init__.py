"""The second half of the method: a neural network's weights in a small file."""

from __future__ import annotations
