"""The study that audits one method against others."""

from __future__ import annotations

from typing import Any

from evalsuite.errors import RequestError
from evalsuite.optional_members import missing_methods
from evalsuite.registry import configure, option_names
from evalsuite.study.file import parse
from evalsuite.study.settings import Study

BITS = ("W8A8", "W4A4")
SEEDS = (0, 1, 2)
IMAGES = 300
AFFORDABLE = {"iterations": 500, "learning_rate": 0.01}
"""What a compared method that iterates gets of these options, so that an audit takes minutes."""


def audit_study(target: str, task: str, against: list[str]) -> Study:
    """Return the study of an audit: target and others at W8A8 and W4A4, 15 corruptions, three calibration draws.

    The target runs with its own defaults; others that have an option ``iterations`` get ``AFFORDABLE``.

    Raises
    ------
    RequestError
        If the target cannot be loaded, lacks a method of the contract, or is compared with itself alone.
    """
    setting = configure("quantizers", target)
    plugin = setting.build()
    for method in missing_methods(plugin, ("insert", "calibrate")):
        raise RequestError(f"{target} has no method {method!r}: a quantizer has insert and calibrate")
    others = [name for name in against if configure("quantizers", name).name != setting.name]
    if not others:
        raise RequestError(f"nothing to compare {target!r} with: name other quantizers by --against")
    options = {other: _affordable(other) for other in others}
    name = target.rpartition(":")[2].replace("/", "-")
    description = f"{name} against {', '.join(others)} on {task}: is it better, where does it break, is it real?"
    if any(options.values()):
        iterations, rate = AFFORDABLE["iterations"], AFFORDABLE["learning_rate"]
        description += f" Compared methods that iterate get {iterations} iterations at a learning rate of {rate}."
    raw: dict[str, Any] = {
        "name": f"audit-{name}",
        "title": f"Audit of {name}",
        "description": description,
        "tasks": [task],
        "seeds": list(SEEDS),
        "calibration": [{"protocol": "calibration", "size": 128}],
        "quantizer": [
            {"method": "full_precision"},
            {"method": target, "bits": list(BITS)},
            *({"method": other, "bits": list(BITS), **given} for other, given in options.items()),
        ],
        "adapter": [{"method": "none"}],
        "stream": [{"protocol": "continual", "images": IMAGES, "clean_first": True}],
    }
    return parse(raw, "the audit's study")


def _affordable(name: str) -> dict[str, Any]:
    known = option_names("quantizers", name)
    return {key: value for key, value in AFFORDABLE.items() if "iterations" in known and key in known}
