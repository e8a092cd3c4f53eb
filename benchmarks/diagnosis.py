"""What the diagnosis of quantized networks costs: its processor time over that of the trials without it.

python benchmarks/diagnosis.py [--data-root DIR]

A run of one network on the 15 corruptions, quantized by rounding to nearest, without adaptation: the cheapest trials
there are, so that any other method, and any adapter beside it, makes the share smaller. Bar: at most 10 %.
"""

from __future__ import annotations

import dataclasses
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from report import Figure, main, note
from rich.console import Console

from evalsuite import store
from evalsuite.running import harness
from evalsuite.running.workspace import Workspace
from evalsuite.study.file import parse
from evalsuite.study.settings import Study
from evalsuite.study.tables import Diagnosis

REPEATS = 1
IMAGES = 16
_QUIET = Console(quiet=True)


def measure(data_root: str | None) -> list[Figure]:
    figures = []
    for task, shown in (("digits/resnet", 480), ("cifar10/resnet20", 500)):
        shares = [_share(_study(task, shown), data_root) for _ in range(REPEATS)]
        name = f"{task} W4A8, {IMAGES} of {shown} images a domain: diagnosis / trials"
        figures.append(Figure(name, statistics.median(shares), at_most=0.1))
    return figures


def _study(task: str, shown: int) -> Study:
    stream: dict[str, Any] = {"protocol": "continual", "images": shown, "batch_size": 60, "severity": 5}
    return parse(
        {
            "name": "diagnosis",
            "tasks": [task],
            "gate": {"points": 0},
            "calibration": [{"protocol": "calibration", "size": 128}],
            "quantizer": [{"method": "rtn", "bits": "W4A8"}],
            "adapter": [{"method": "none"}],
            "stream": [stream],
        }
    )


def _share(study: Study, data_root: str | None) -> float:
    """Return the processor time of a run that has everything but its diagnosis, over that of its quantized trial."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        execute: dict[str, Any] = {"in_process": True, "device": "cpu", "console": _QUIET, "data_root": data_root}
        harness.execute(study, out, **execute)
        start = time.process_time()
        harness.execute(study, out, **execute)
        nothing_left = time.process_time() - start
        (quantized,) = (row for row in store.read_plan(out) if row["bits"] != "FP32")
        store.record_file(out, quantized["trial"]).unlink()
        Workspace(out).model_file(quantized[store.MODEL]).unlink()
        start = time.process_time()
        harness.execute(study, out, **execute)
        trials = time.process_time() - start - nothing_left
        asked = dataclasses.replace(study, diagnosis=Diagnosis(IMAGES))
        start = time.process_time()
        harness.execute(asked, out, **execute)
        diagnosis = time.process_time() - start - nothing_left
    note(f"{study.tasks[0].name}: trials {trials:.2f} s, diagnosis {diagnosis:.2f} s of a processor")
    return diagnosis / trials


if __name__ == "__main__":
    main(measure, __doc__)
