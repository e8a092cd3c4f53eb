"""``engine_gaps.csv``: what a network does on an engine otherwise than in the simulation, on the same images."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from evalsuite.analysis._settings import Settings, Values
from evalsuite.analysis.claims import LEVEL, significant
from evalsuite.analysis.harm import harm
from evalsuite.analysis.outcomes import COMBINATION, Combination, Int8Array, Outcome, Outcomes, Rows, pooled
from evalsuite.metrics import group_means
from evalsuite.statistics import holm
from evalsuite.store import SIMULATION, Run

EVERYWHERE = ""
"""The ``domain`` of the rows that are about all images."""
ENGINE_GAP_COLUMNS = (
    *(*COMBINATION, "engine", "domain", "severity", "images", "flips", "flips_low", "flips_high"),
    *("most_flipped", "class_flips", "class_flips_low", "class_flips_high"),
    *("error", "simulated_error", "change", "change_low", "change_high"),
    *("worst_class", "worst_error", "simulated_worst_class", "simulated_worst_error"),
    *("most_changed", "class_change", "class_change_p", "class_change_p_holm", "shown"),
    *("milliseconds", "threads", "graph_bytes"),
    *("latency_ms", "float_latency_ms", "latency_ratio"),
)
_LATENCY = ("latency_ms", "float_latency_ms", "latency_ratio")
_FAMILY = ["task", "calibration_label", "stream_label"]


@dataclass(frozen=True, eq=False)
class _Deployed:
    """A method combination on an engine: (own, simulated) outcomes of each seed that is done for both."""

    combination: Combination
    engine: str
    pairs: list[tuple[Outcome, Outcome]]
    costs: Values

    @property
    def flipped(self) -> Int8Array:
        """(N,) whether the two name different classes."""
        return np.concatenate([own.prediction != other.prediction for own, other in self.pairs]).astype(np.int8)


def engine_gaps_of(run: Run, outcomes: Outcomes, settings: Settings) -> pd.DataFrame:
    """Hold what engines run against its simulation: a row for all images and, of several domains, one for each.

    Returns
    -------
    ``flips`` is the share of images of which the engine names another class than the simulation, ``most_flipped`` the
    class with the largest share (empty without any), ``class_flips`` that share; ``change`` is ``error`` minus
    ``simulated_error``. Each has a 95 % bootstrap interval over test images, that of the class at the level of all
    classes at once. ``worst_class`` and ``simulated_worst_class`` are those with the largest errors. ``most_changed``
    is the class whose error rises most (empty where none does), ``class_change_p`` whether that is more than would be
    where the engine changes all classes alike (largest change where images are exchanged between classes, see
    :func:`evalsuite.analysis.harm.harm`; of an engine that harms all as much, ``change`` tells), corrected by Holm over
    the rows about all images of a task, calibration set and stream; ``shown`` where that is significant; of a domain
    these are not tested. ``milliseconds`` an image, the engine's own, are the median over seeds, with so many
    ``threads``; ``graph_bytes`` is the size of the ONNX file. ``latency_ms`` is what an image takes in batches of 16,
    ``float_latency_ms`` the same engine with the network in full precision, ``latency_ratio`` the first over the
    second: medians over pairs of passes (:mod:`evalsuite.running.latency`) and over seeds.
    """
    rows = [row for each in _deployed(run, outcomes) for row in _rows_of(each, outcomes, settings)]
    frame = pd.DataFrame(rows, columns=list(ENGINE_GAP_COLUMNS))
    everywhere = frame["domain"] == EVERYWHERE
    corrected = frame[everywhere].groupby(_FAMILY)["class_change_p"].transform(lambda p: holm(p.astype(float)))
    frame["class_change_p_holm"] = corrected.reindex(frame.index)
    frame["shown"] = significant(frame["class_change_p_holm"].astype(float))
    return frame


def _deployed(run: Run, outcomes: Outcomes) -> Iterator[_Deployed]:
    if SIMULATION not in run.trials:
        return
    trials = run.trials.set_index("trial")
    threads = run.study["hardware"].get("threads")
    for each in outcomes.combinations:
        own = trials.loc[[outcome.trial for outcome in each.outcomes.values()]]
        pairs = [
            (outcome, outcomes.by_trial[twin])
            for outcome, twin in zip(each.outcomes.values(), own[SIMULATION], strict=True)
            if isinstance(twin, str) and twin in outcomes.by_trial
        ]
        pairs = [(outcome, other) for outcome, other in pairs if outcome.layout is other.layout]
        if pairs:
            seconds = own["forward_seconds"] / own["images"]
            costs: Values = {"milliseconds": 1000 * float(np.median(seconds)), "threads": threads}
            costs["graph_bytes"] = own["graph_bytes"].max() if "graph_bytes" in own else None
            costs |= {name: float(own[name].median()) if name in own else None for name in _LATENCY}
            yield _Deployed(each, each.exported_to, pairs, costs)


def _rows_of(each: _Deployed, outcomes: Outcomes, settings: Settings) -> Iterator[Values]:
    rows = outcomes.rows(each.combination.task, [own.layout for own, _ in each.pairs])
    shown: list[tuple[str, int | None, NDArray[np.int64]]] = [(EVERYWHERE, None, np.arange(len(rows.image)))]
    if len(rows.domains) > 1:
        shown += [
            (name, severity, np.flatnonzero(rows.domain == code)) for code, (name, severity) in enumerate(rows.domains)
        ]
    changes = pooled(own for own, _ in each.pairs) - pooled(other for _, other in each.pairs)
    for domain, severity, inside in shown:
        values: Values = {**each.combination.labels, "engine": each.engine, "domain": domain, "severity": severity}
        values["images"] = len(np.unique(rows.image[inside]))
        yield (
            values
            | _gap(each, rows, inside, settings, f"{domain} {severity}")
            | each.costs
            | (_tested(rows, changes, settings) if domain == EVERYWHERE else {})
        )


def _gap(each: _Deployed, rows: Rows, inside: NDArray[np.int64], settings: Settings, where: str) -> Values:
    """Return flips, errors and their change on some rows, and the classes that these are worst for."""
    flips = each.flipped
    errors = np.column_stack([pooled(own for own, _ in each.pairs), pooled(other for _, other in each.pairs)])
    codes, names = rows.group("class")
    means, _ = group_means(np.column_stack([flips, errors])[inside], codes[inside], len(names))
    flipped, own, other = (int(np.nanargmax(column)) for column in means.T)
    values: Values = {
        "most_flipped": names[flipped] if means[flipped, 0] > 0 else None,
        "error": float(errors[inside, 0].mean()),
        "simulated_error": float(errors[inside, 1].mean()),
        **{"worst_class": names[own], "worst_error": means[own, 1]},
        **{"simulated_worst_class": names[other], "simulated_worst_error": means[other, 2]},
    }
    asked = [
        ("flips", flips, inside, LEVEL, False),
        ("change", errors[:, 0] - errors[:, 1], inside, LEVEL, True),
    ]
    if values["most_flipped"] is None:
        values["class_flips"] = 0.0
    else:
        asked.append(("class_flips", flips, inside[codes[inside] == flipped], LEVEL / len(names), False))
    for name, column, chosen, level, signed in asked:
        generator = settings.generator("engine gaps", rows.task, where, name)
        found = settings.interval(column[:, None], rows, generator, chosen, 1 - level, signed)
        values |= {name: found.estimate[0], f"{name}_low": found.low[0], f"{name}_high": found.high[0]}
    return values


def _tested(rows: Rows, changes: Int8Array, settings: Settings) -> Values:
    """Return the class whose error rises most, by how much, and p of that where all classes change alike."""
    found = harm(rows, changes[:, None], "class", settings)
    most = int(np.nanargmax(found.drop[:, 0]))
    return {
        "most_changed": found.names[most] if found.drop[most, 0] > 0 else None,
        "class_change": found.drop[most, 0],
        "class_change_p": found.p[most, 0],
    }
