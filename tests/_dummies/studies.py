"""Studies of the dummy plugins, and running them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from _dummies import plugins
from rich.console import Console

from evalsuite.running import harness
from evalsuite.study.file import parse
from evalsuite.study.settings import Study

QUIET = Console(quiet=True)
FULL_PRECISION = [{"method": "full_precision"}]


def execute(study: Study, folder: Path, workers: int = 1, **options: Any) -> harness.Outcome:
    """Run a study without a word: in this process, unless there are to be several or ``options`` say otherwise."""
    options = {"in_process": workers == 1} | options
    return harness.execute(study, folder, workers, device="cpu", console=QUIET, **options)


def raw(**changes: Any) -> dict[str, Any]:
    return {
        "name": "tiny",
        "tasks": [plugins.TASK],
        "seeds": [0],
        "analysis": {"permutations": 50, "bootstrap": 50},
        "source_images": 8,
        "calibration": [{"protocol": "calibration", "size": 6}],
        "quantizer": [{"method": "full_precision"}, {"method": plugins.SCALED, "levels": [1, 3], "bits": "W4A4"}],
        "adapter": [{"method": ["none", plugins.DRIFTING]}],
        "stream": [
            {
                "protocol": "continual",
                "order": ["usual", "reversed"],
                "images": 24,
                "batch_size": 7,
                "severity": 1,
                "corruptions": ["gaussian_noise", "contrast", "brightness"],
            }
        ],
    } | changes


def tiny(**changes: Any) -> Study:
    return parse(raw(**changes))
