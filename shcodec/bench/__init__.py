"""Rate-distortion benchmark: shc beside other codecs, on real files, over published sets or any folder.

`run` does all of it; the modules beside it are its parts: datasets, codecs, metrics, bd_rate, runner, results, summary,
report, plots. Everything here needs the extra `bench`.
"""

from __future__ import annotations

from shcodec.bench.benchmark import run

__all__ = ["run"]
