"""What reading files costs: run as a process of its own, it tells seconds and memory for every file that it is given.

    python meter.py FILE...

Prints one JSON object per file: whether it was rejected and why, processor seconds, and megabytes beyond those that the
process had when it began with the file, its model loaded. Linux only.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from shcodec import container
from shcodec.codec import decoding
from shcodec.model import zoo
from shcodec.support.errors import ShcError

STATUS = Path("/proc/self/status")
RESET = Path("/proc/self/clear_refs")


def memory(field: str) -> float:
    """Return a field of the process's status in MB."""
    line = next(line for line in STATUS.read_text(encoding="ascii").splitlines() if line.startswith(field))
    return int(line.split()[1]) / 1000


def cost(data: bytes) -> dict[str, object]:
    """Decode a file and tells what came of it."""
    zoo.load_by_id(container.unpack_header(data, max_pixels=1 << 40).model_id)
    RESET.write_text("5", encoding="ascii")  # the peak is that of now
    before, start = memory("VmRSS"), time.process_time()
    try:
        decoding.decode(data)
        outcome = ""
    except ShcError as error:
        outcome = f"{type(error).__name__}: {error}"
    seconds = time.process_time() - start
    return {"rejected": outcome, "seconds": round(seconds, 3), "megabytes": round(memory("VmHWM") - before, 1)}


def main() -> None:
    """Tells the cost of the files named on the command line."""
    for name in sys.argv[1:]:
        print(json.dumps({"file": Path(name).name, **cost(Path(name).read_bytes())}), flush=True)


if __name__ == "__main__":
    main()
