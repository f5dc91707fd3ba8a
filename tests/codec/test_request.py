"""A request is checked where it is made, in one place."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from shcodec.codec.request import ContradictionError, Request
from shcodec.support.errors import UsageError


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"beta": 1.9}, "beta must be from 2 to 4096, not 1.9"),
        ({"quality": 101}, "the quality must be from 0 to 100, not 101"),
        ({"size": 0}, "what is wanted must be a positive number, not 0"),
        ({"psnr": "30"}, "psnr must be a number, not '30'"),
        ({"effort": 3.0}, "the effort must be a whole number, not 3.0"),
    ],
)
def test_wrong_values(wanted: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=f"^{message}$"):
        Request("fast", **wanted)


def test_contradictions() -> None:
    with pytest.raises(ContradictionError, match="beta and bpp and psnr exclude each other"):
        Request("fast", beta=50, bpp=1, psnr=30)


@pytest.mark.parametrize(
    ("wanted", "beta"), [({}, 50), ({"beta": 7}, 7), ({"quality": 100}, 2), ({"psnr": 30}, None), ({"size": 9}, None)]
)
def test_the_wanted_beta(wanted: dict[str, Any], beta: float | None) -> None:
    assert Request("fast", **wanted).wanted_beta == (None if beta is None else pytest.approx(beta))


def test_a_request_needs_no_numpy() -> None:
    """A worker unpickles one before it says how many threads numpy may start."""
    code = "import sys, shcodec.codec.request; print('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
