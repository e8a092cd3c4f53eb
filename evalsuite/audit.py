"""Auditing a new PTQ method: a study made for it, and its findings in words."""

from __future__ import annotations

from typing import Any

from evalsuite.errors import RequestError
from evalsuite.registry import configure
from evalsuite.store import Run
from evalsuite.study import Study, parse

BITS = ("W8A8", "W4A4")
SEEDS = (0, 1, 2)


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
        "stream": [{"protocol": "continual", "images": 300, "clean_first": True}],
    }
    return parse(raw, "the audit's study")


def findings(run: Run, target: str) -> list[str]:
    """Say how the target compares with each of the others at each bit width, in sentences."""
    from evalsuite.analysis import compare, summarise

    summary = summarise(run)
    comparisons = compare(run)
    own = set(run.trials.loc[run.trials["quantizer"] == target, "quantizer_label"])
    sentences = []
    for row in summary[summary["quantizer_label"].isin(own)].itertuples():
        harm = (
            "more than chance alone would give" if row.worst_drop_class_p_holm < 0.05 else "no more than chance gives"
        )
        sentences.append(
            f"{row.quantizer_label}: {100 * row.drop:.1f} points more errors than full precision on average, "
            f"{100 * row.worst_drop_class_value:.1f} in its worst class ({row.worst_drop_class}), {harm} "
            f"(expected {100 * row.worst_drop_class_null:.1f}, p = {row.worst_drop_class_p_holm:.3g})."
        )
    factor = comparisons[comparisons["factor"] == "quantizer"]
    for row in factor[factor["a"].isin(own) ^ factor["b"].isin(own)].itertuples():
        sign, mine, other = (1, row.a, row.b) if row.a in own else (-1, row.b, row.a)
        bits = mine.rpartition(" ")[2]
        if other.rpartition(" ")[2] != bits:
            continue
        gap = 100 * sign * row.difference
        real = row.p_holm < 0.05
        verdict = f"{'worse' if gap > 0 else 'better'} than" if real else "not distinguishable from"
        chance = f"p = {row.p_holm:.3g}" if row.p_holm == row.p_holm else row.note
        sentences.append(
            f"{mine} is {verdict} {other}: {gap:+.1f} points of mean error ({chance}, n = {row.n} domains)."
        )
    return sentences
