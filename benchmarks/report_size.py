"""The report of a large run: 2,050 made-up trials of 1,000 images each, from records to the page.

The records come from the tests' dummies; making them is not measured.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from report import Figure, main, note

_ROOT = Path(__file__).parents[1]
_SECONDS, _GIGABYTES = 30.0, 2.0


def measure(data_root: str | None) -> list[Figure]:
    sys.path[:0] = [str(_ROOT), str(_ROOT / "tests")]
    from _dummies.runs import USUAL_ORDER, USUAL_SET, CalibrationSet, make_run

    size = ("calibration", {"size": 64})
    sets = [USUAL_SET, *(CalibrationSet(f"size {n}", [("calibration", {"size": n})], 16 / n) for n in (16, 32, 256))]
    sets.append(CalibrationSet("size 64, mixup", [size, ("augmentation", {"method": "mixup"})], 0.2))
    bits = ("W8A8", "W4A8", "W4A4")
    quantizers = [("full_precision", "FP32"), *((name, each) for name in ("rtn", "adaround") for each in bits)]
    quantizers += [("gptq", "W4A4"), ("brecq", "W4A4")]
    with tempfile.TemporaryDirectory() as folder:
        run = make_run(
            Path(folder) / "run",
            quantizers=quantizers,
            adapters=("none", "bn_adapt", "tent", "zoa", "zoa:activation_shift=false"),
            streams=("usual",),
            calibrations=sets,
            domains=USUAL_ORDER[:10],
            images=100,
            seeds=range(5),
            permutations=2000,
            bootstrap=2000,
        )
        trials = len(list((run / "records").glob("*.parquet")))
        note(f"{trials} trials are made; the report begins")
        begin = time.perf_counter()
        command = [sys.executable, "-c", "from evalsuite.cli import main; main()", "report", str(run)]
        subprocess.run(command, check=True, cwd=_ROOT, stdout=subprocess.DEVNULL, env=os.environ)
        seconds = time.perf_counter() - begin
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
    busy = f"{used.ru_utime + used.ru_stime:.0f} s of processor time, load {os.getloadavg()[0]:.1f}"
    return [
        Figure(f"report of {trials:,} trials of 1,000 images", seconds, "s", at_most=_SECONDS, note=busy),
        Figure("peak resident memory", used.ru_maxrss / 2**20, "GiB", at_most=_GIGABYTES),
    ]


if __name__ == "__main__":
    main(measure, __doc__)
