"""Rate-distortion benchmark: shc beside other codecs, on real files, over published sets or any folder.

`run` does all of it; the modules beside it are its parts: datasets, codecs and metrics; runner and processes measure
cells, results keeps them; summary and bd_rate make curves of them; report, tables, plots, crops and page show them;
literature holds what others published; card writes results into the models' cards. Everything here needs the extra
`bench`.
"""

from __future__ import annotations

from shcodec.bench.benchmark import Options, run

__all__ = ["Options", "run"]
