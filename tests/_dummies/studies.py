"""Studies of the dummy plugins."""

from __future__ import annotations

from typing import Any

from _dummies import plugins

from evalsuite.study.file import parse
from evalsuite.study.settings import Study


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
