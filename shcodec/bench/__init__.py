"""Rate-distortion benchmark: shc beside other codecs, on real files, over published sets or any folder.

`benchmark` does all of it, and the modules beside it are its parts, in the order of the work:

- what is measured: `datasets` (with `download` and `checksums`), `codecs` and `external_codecs`, `metrics`;
- the work: `measuring` measures cells (one picture by one codec at one setting), `cells` keeps them as results.csv;
- what follows: `curves` averages cells, `bd_rate` compares curves, `literature` holds what others published;
- what is written: `report`, `tables`, `plots`, `crops`, `page`; `card` writes results into the models' cards.

Everything here needs the extra `bench`.
"""

from __future__ import annotations

from shcodec.bench.benchmark import Options, run

__all__ = ["Options", "run"]
