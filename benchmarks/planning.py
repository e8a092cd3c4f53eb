"""What it takes to plan a study of 105,000 trials, to name them, to cut them and to write their table; and validate.

python benchmarks/planning.py

It needs no data; memory is the largest that the process held, imports included.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from report import Figure, main, note
from rich.console import Console

from evalsuite.running.estimates import Estimates
from evalsuite.running.harness import execute
from evalsuite.running.plan import checked_images, planned
from evalsuite.running.table import asked, gather
from evalsuite.running.units import Schedule
from evalsuite.running.workspace import Workspace
from evalsuite.study.cost import cost_of
from evalsuite.study.file import parse
from evalsuite.study.labels import labels
from evalsuite.study.settings import Study
from evalsuite.study.trials import expand

TRIALS = 105_000
STUDY: dict[str, Any] = {
    "name": "planning",
    "tasks": ["digits/resnet"],
    "max_trials": 200_000,
    "seeds": list(range(50)),
    "calibration": [{"protocol": "calibration", "size": [8, 16, 24, 32, 40, 48, 56]}],
    "quantizer": [
        {"method": "rtn", "bits": ["W8A8", "W4A4", "W2A4"], "range": ["mse", "minmax", "percentile", "kl", "cosine"]}
    ],
    "adapter": [
        {"method": "none"},
        {"method": ["tent", "eata", "sar", "cotta"], "lr": 0.001},
        {"method": ["tent", "eata", "sar", "cotta", "rotta"], "lr": 0.01},
    ],
    "stream": [{"protocol": "continual", "order": ["usual", "reversed"], "images": 100}],
    "exclude": [{"calibration_order": 6, "quantizer.range": "kl", "seed": 0}],
}
VALIDATES = 5


def measure(data_root: str | None) -> list[Figure]:
    study = parse(STUDY, "the benchmark's study")
    figures = []
    with tempfile.TemporaryDirectory() as folder:
        workspace = Workspace(Path(folder) / "run", data_root)
        start = time.perf_counter()
        plan = planned(study, workspace, "")
        needed = checked_images(plan.missing, workspace)
        groups = Schedule(4, plan.estimates, needed.shows).groups(plan.missing)
        seconds = time.perf_counter() - start
        count = len(plan.trials)
        note(f"{count:,} trials in {len(groups):,} groups")
        figures.append(Figure(f"plan of {count:,} trials, cut into groups", seconds, "s", 10.0))
        figures.append(Figure("  memory then", _gigabytes(), "GB", 1.0))
        for name, call in (
            ("labels", lambda: labels(plan.trials)),
            ("cost", lambda: cost_of(study, plan.trials)),
            ("table of trials", lambda: gather(asked(plan.trials, study), workspace.folder, {})),
        ):
            start = time.perf_counter()
            call()
            figures.append(Figure(f"  {name} of {count:,} trials", time.perf_counter() - start, "s"))
        figures.append(Figure("  memory then", _gigabytes(), "GB"))
    return [*figures, _largest_group(), _overhead(), _validate()]


def _one_model(adapter: str, seeds: int) -> Study:
    """Return a study whose trials are nearly all of one network and one adapter, and show one image each."""
    stream = {"protocol": "continual", "images": 1, "batch_size": 1, "corruptions": ["brightness"]}
    return parse(
        STUDY
        | {
            "seeds": list(range(seeds)),
            "calibration": [{"protocol": "calibration", "size": 8}],
            "quantizer": [{"method": "full_precision"}],
            "adapter": [{"method": adapter}],
            "stream": [stream],
            "exclude": [],
            "gate": {"points": 0},
        }
    )


def _largest_group() -> Figure:
    """Return the largest part of a process's work that cannot be given to another, of 2,000 trials of one unit."""
    study, workers = _one_model("tent", 2000), 4
    trials = [trial for trial in expand(study, dict.fromkeys(study.tasks, "")) if not trial.is_reference]
    groups = Schedule(workers, Estimates(), {}).groups(trials)
    share = max(len(group) for group in groups) * workers / len(trials)
    return Figure(f"largest of {len(groups)} groups of {len(trials):,} trials, of a process's work", share, "", 0.15)


def _overhead() -> Figure:
    """Return milliseconds that a further trial of one image takes, its pass through the network included."""
    seconds = []
    for seeds in (20, 220):
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            execute(_one_model("none", seeds), folder, in_process=True, device="cpu", console=Console(quiet=True))
            seconds.append(time.perf_counter() - start)
    return Figure("a further trial of one image, its pass included", (seconds[1] - seconds[0]) / 0.2, "ms", 20.0)


def _gigabytes() -> float:
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / 1e9 if sys.platform == "darwin" else most * 1024 / 1e9


def _validate() -> Figure:
    """Return the median wall time of the command, the start of the interpreter and all imports included."""
    times = []
    for _ in range(VALIDATES):
        start = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "evalsuite", "validate", "reliability", "--json"],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        times.append(time.perf_counter() - start)
    return Figure("evalsuite validate reliability", sorted(times)[VALIDATES // 2], "s", 2.0)


if __name__ == "__main__":
    main(measure, __doc__)
