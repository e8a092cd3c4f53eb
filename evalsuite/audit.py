"""Auditing a new PTQ method: a study made for it, and its findings in words."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import pandas as pd

from evalsuite.errors import RequestError
from evalsuite.registry import configure
from evalsuite.store import Run
from evalsuite.study import Study, parse

BITS = ("W8A8", "W4A4")
SEEDS = (0, 1, 2)
IMAGES = 300
ALPHA = 0.05


def audit_study(target: str, task: str, against: list[str]) -> Study:
    """Return the study of an audit: target and others at W8A8 and W4A4, 15 corruptions, three calibration draws.

    Raises
    ------
    RequestError
        If the target cannot be loaded, lacks a method of the contract, or is compared with itself alone.
    """
    plugin = configure("quantizers", target).build()
    for method in ("insert", "calibrate"):
        if not callable(getattr(plugin, method, None)):
            raise RequestError(f"{target} has no method {method!r}: a quantizer has insert and calibrate")
    others = [name for name in against if name != target]
    if not others:
        raise RequestError(f"nothing to compare {target!r} with: name other quantizers by --against")
    for name in others:
        configure("quantizers", name)
    name = target.rpartition(":")[2].replace("/", "-")
    raw: dict[str, Any] = {
        "name": f"audit-{name}",
        "title": f"Audit of {name}",
        "description": f"{name} against {', '.join(others)} on {task}: is it better, where does it break, is it real?",
        "tasks": [task],
        "seeds": list(SEEDS),
        "calibration": [{"protocol": "calibration", "size": 128}],
        "quantizer": [{"method": "full_precision"}, {"method": [target, *others], "bits": list(BITS)}],
        "adapter": [{"method": "none"}],
        "stream": [{"protocol": "continual", "images": IMAGES, "clean_first": True}],
    }
    return parse(raw, "the audit's study")


def findings(run: Run, target: str) -> list[str]:
    """Say how the target compares with each of the others at each bit width, in sentences."""
    from evalsuite.analysis import analyse

    own = set(run.trials.loc[run.trials["quantizer"] == target, "quantizer_label"])
    analysis = analyse(run)
    summary = analysis.summary.to_dict("records")
    comparisons = analysis.comparisons.to_dict("records")
    alike = [row for row in comparisons if row["factor"] == "quantizer" and (row["a"] in own) != (row["b"] in own)]
    return [
        *(_harm(row) for row in summary if row["quantizer_label"] in own),
        *(_contest(row, own) for row in alike if _bits(row["a"]) == _bits(row["b"])),
    ]


def _harm(row: Mapping[Hashable, Any]) -> str:
    p = row["worst_drop_class_p_holm"]
    verdict = "more than chance alone gives" if p < ALPHA else "no more than chance alone may give"
    return (
        f"{row['quantizer_label']}: {100 * row['drop']:.1f} points more errors than full precision on average, "
        f"{100 * row['worst_drop_class_value']:.1f} in its worst class ({row['worst_drop_class']}), {verdict} "
        f"({100 * row['worst_drop_class_null']:.1f} expected, p = {p:.2g})."
    )


def _contest(row: Mapping[Hashable, Any], own: set[str]) -> str:
    mine, other, sign = (row["a"], row["b"], 1) if row["a"] in own else (row["b"], row["a"], -1)
    gap = 100 * sign * row["difference"] + 0.0  # no "-0.0"
    if pd.isna(row["p_holm"]):
        return f"{mine} against {other}: {gap:+.1f} points of mean error; no test ({row['note']})."
    verdict = ("worse than" if gap > 0 else "better than") if row["p_holm"] < ALPHA else "not distinguishable from"
    return (
        f"{mine} is {verdict} {other}: {gap:+.1f} points of mean error "
        f"(p = {row['p_holm']:.2g} after Holm, {row['n']} domains)."
    )


def _bits(label: str) -> str:
    return label.rpartition(" ")[2]
