"""``group_drops.csv``: what each group loses by quantization, and whether that is more than chance explains."""

from __future__ import annotations

from collections import Counter

import pandas as pd

from evalsuite.analysis._settings import Settings, baselines
from evalsuite.analysis.claims import significant
from evalsuite.analysis.harm import harms, holm_factors
from evalsuite.analysis.outcomes import COMBINATION, Combination, Outcomes
from evalsuite.store import Run

GROUP_DROP_COLUMNS = (
    *COMBINATION,
    *("question", "group", "name", "name_order", "images", "drop", "p", "factor", "high", "shown"),
)
_FAMILY = ["task", "calibration_label", "stream_label"]  # of the networks without adaptation
_MOST_GROUPS = 1000  # of a grouping other than the class; with more a group has too few images to be told apart


def group_drops_of(run: Run, outcomes: Outcomes, settings: Settings) -> pd.DataFrame:
    """Hold every class, domain or other group of the networks without adaptation against chance.

    Returns
    -------
    A row per (method combination, grouping, group), for each task's first stream that is done. ``group`` is the
    grouping, ``name`` the group's, ``images`` its number of test images. ``drop`` is the error minus the reference's
    on the same images, a fraction. ``p`` is corrected over the groups (largest drops of the permutations, see
    :func:`evalsuite.analysis.harm.harm`), ``factor`` is what Holm's correction over the networks of a task,
    calibration set and stream multiplies it by,
    ``high`` the largest drop that is not ``shown``: ``factor * p`` is not significant.
    """
    members = _members(run, outcomes)
    families = [(each.task, each.calibration, each.stream) for each in members]
    sizes = Counter(families)
    parts = []
    for found in harms(outcomes, members, settings, _MOST_GROUPS):
        result = found.harm
        for column, member in enumerate(found.members):
            trial = members[member]
            frame = pd.DataFrame(
                {
                    "group": found.group,
                    "name": result.names,
                    "name_order": range(len(result.names)),
                    "images": result.images,
                    "drop": result.drop[:, column],
                    "p": result.p[:, column],
                }
            )
            # Which factor it will be is known when all members are; it is a whole number up to their number.
            edges = [result.edge(column, factor) for factor in range(1, sizes[families[member]] + 1)]
            worst = result.p[int(result.drop[:, column].argmax()), column]
            parts.append((frame.assign(question="networks_without_adaptation", **trial.labels), worst, edges))
    return _corrected(parts) if parts else pd.DataFrame(columns=list(GROUP_DROP_COLUMNS))


def _corrected(parts: list[tuple[pd.DataFrame, float, list[float]]]) -> pd.DataFrame:
    """Correct over the networks of a family; a part has a network's groups, the worst one's p, the edges by factor."""
    first = [frame.iloc[0] for frame, _, _ in parts]
    questions = pd.DataFrame({name: [row[name] for row in first] for name in (*_FAMILY, "group")})
    questions["p"] = [worst for _, worst, _ in parts]
    factors = questions.groupby([*_FAMILY, "group"])["p"].transform(holm_factors)
    frames = [
        frame.assign(factor=factor, high=edges[int(factor) - 1], shown=significant(factor * frame["p"]))
        for (frame, _, edges), factor in zip(parts, factors, strict=True)
    ]
    return pd.concat(frames, ignore_index=True)[list(GROUP_DROP_COLUMNS)]


def _members(run: Run, outcomes: Outcomes) -> list[Combination]:
    """Return the networks without adaptation on each task's first stream, that of any network whose first it is."""
    unadapted = {task: adapter for task, (_, adapter) in baselines(run).items()}
    order = {label: place for place, label in enumerate(run.trials["stream_label"].unique())}
    members = [
        each
        for each in outcomes.combinations
        if each.adapter == unadapted.get(each.task, "")
        and not each.is_reference
        and any(reference in outcomes.by_trial for reference in each.references.values())
    ]
    first: dict[tuple[str, str, str], str] = {}
    for each in sorted(members, key=lambda each: order[each.stream]):
        first.setdefault((each.task, each.calibration, each.quantizer), each.stream)
    streams = {(task, stream) for (task, _, _), stream in first.items()}
    return [each for each in members if (each.task, each.stream) in streams]
