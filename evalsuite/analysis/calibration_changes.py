"""``calibration_changes.csv``: what another calibration set than the study's first one changes in the worst class."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from evalsuite.analysis._settings import Settings, Values, first_calibrations
from evalsuite.analysis.claims import LEVEL, excludes_zero
from evalsuite.analysis.outcomes import Combination, Outcome, Outcomes, pooled
from evalsuite.metrics import group_means
from evalsuite.statistics import difference_bounds, largest_mean_bounds
from evalsuite.store import Run

CALIBRATION_CHANGE_COLUMNS = (
    *("task", "stream_label", "adapter_label", "quantizer_label", "bits", "calibration_label", "first", "sets"),
    *("draws", "worst_class", "worst_drop", "first_worst_class", "first_worst_drop"),
    *("worst_change", "worst_low", "worst_high", "shown"),
)
_CHUNK = 32  # calibration sets whose values are held at once


def calibration_changes_of(run: Run, outcomes: Outcomes, settings: Settings) -> pd.DataFrame:
    """Compare the worst class under each calibration set with that under the study's ``first`` one.

    Returns
    -------
    A row per (network without adaptation, calibration set but the first), for a task's first stream.
    ``worst_change`` is the largest drop of a class (``worst_class``) minus the largest one with the first set
    (``first_worst_class``), over the ``draws`` done for both, with an interval that holds whichever classes are the
    worst (:func:`evalsuite.statistics.largest_mean_bounds`) and is wide; ``shown`` where it excludes zero. ``sets``
    is the number of sets compared for the network. Fractions; NaN where no draw is done for both.
    """
    rows: list[Values] = []
    for base, others in _families(run, outcomes):
        for other, worst in zip(others, _worst_changes(outcomes, base, others), strict=True):
            rows.append(
                {"task": base.task, "stream_label": base.stream, "adapter_label": base.adapter}
                | {"quantizer_label": base.quantizer, "bits": base.facts["bits"]}
                | {"calibration_label": other.calibration, "first": base.calibration, "sets": len(others)}
                | worst
            )
    frame = pd.DataFrame(rows, columns=[name for name in CALIBRATION_CHANGE_COLUMNS if name != "shown"])
    return frame.assign(shown=excludes_zero(frame["worst_low"], frame["worst_high"]))


def _families(run: Run, outcomes: Outcomes) -> Iterator[tuple[Combination, list[Combination]]]:
    """Yield the study's first calibration set of each unadapted network in a task's first stream, and the others."""
    trials = run.trials
    unadapted = set(trials.loc[trials["trial"].isin(trials["reference"]), "adapter_label"])
    streams = trials.drop_duplicates("task").set_index("task")["stream_label"].to_dict()
    quantized = trials[trials["weight_bits"].notna()]
    first = first_calibrations(run)
    quantizers = set(quantized["quantizer_label"])
    families: dict[tuple[str, str, str], list[Combination]] = {}
    for each in outcomes.combinations:
        if each.quantizer in quantizers and each.adapter in unadapted and each.stream == streams[each.task]:
            families.setdefault((each.task, each.quantizer, each.adapter), []).append(each)
    for members in families.values():
        if len(members) > 1 and members[0].calibration == first[members[0].task, members[0].quantizer]:
            yield members[0], members[1:]


def _worst_changes(outcomes: Outcomes, base: Combination, others: list[Combination]) -> list[Values]:
    """Return the columns on the worst class, of each of ``others`` against ``base``."""
    references = {seed: ref for seed, name in base.references.items() if (ref := outcomes.by_trial.get(name))}
    both = [_common(base, other, references) for other in others]
    found: list[Values] = [{"draws": len(seeds)} for seeds in both]
    items = [(base.task, [references[seed] for seed in seeds]) for seeds in both]
    for rows, members in outcomes.batches(items):
        right = pooled(items[members[0]][1])
        codes, names = rows.group("class")
        for start in range(0, len(members), _CHUNK):
            part = members[start : start + _CHUNK]
            own = np.column_stack([pooled(others[k].outcomes[seed] for seed in both[k]) for k in part]) - right[:, None]
            first = pooled(base.outcomes[seed] for seed in both[part[0]]) - right
            (drops, _), (base_drops, _) = (group_means(each, codes, len(names)) for each in (own, first))
            worst, base_worst = drops.argmax(axis=0), int(base_drops.argmax())
            bounds = difference_bounds(
                *(
                    largest_mean_bounds(each, codes, rows.image, rows.replicate, level=1 - LEVEL / 2, signed=True)
                    for each in (own, first)
                )
            )
            for k, member in enumerate(part):
                change = float(drops[worst[k], k] - base_drops[base_worst])
                found[member] |= {
                    "worst_class": names[worst[k]],
                    "worst_drop": float(drops[worst[k], k]),
                    "first_worst_class": names[base_worst],
                    "first_worst_drop": float(base_drops[base_worst]),
                    "worst_change": change,
                    "worst_low": float(bounds.low[k]),
                    "worst_high": float(bounds.high[k]),
                }
    return found


def _common(base: Combination, other: Combination, references: dict[int, Outcome]) -> list[int]:
    """Return the seeds of which both and their reference are done, none unless all show the same images."""
    seeds = [seed for seed in other.outcomes if seed in base.outcomes and seed in references]
    shown = [{id(each[seed].layout) for each in (base.outcomes, other.outcomes, references)} for seed in seeds]
    return seeds if all(len(layouts) == 1 for layouts in shown) else []
