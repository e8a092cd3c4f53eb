"""``views.csv``: what is set against each other. Quantizers all else equal, and adapters on one quantized network."""

from __future__ import annotations

import pandas as pd

from evalsuite.analysis._settings import Settings
from evalsuite.analysis.outcomes import COMBINATION, Combination, Outcomes
from evalsuite.oracles import without_oracles
from evalsuite.store import Run

VIEW_COLUMNS = (*COMBINATION, "view", "line", "line_order", "reference")
LINE = ("task", "view", "stream_label", "line", "line_order", "reference")
"""What names a curve in the tables of curves."""
QUANTIZERS = "quantizers"

_MOST = 7
"""Lines of a view: as many as can be told apart."""
_BITS = ["weight_bits", "activation_bits"]


def views_of(run: Run, outcomes: Outcomes, settings: Settings, *, most: int = _MOST) -> pd.DataFrame:
    """Return the method combinations that are set against each other, a row per (task, view, stream, line).

    The view ``quantizers`` has those without adaptation, under the study's first calibration set; of more than
    ``most`` those with the fewest bits, in the study's order. The view that is named after a network has the adapters
    on it: the network with the fewest bits, of these the one with most adapters, then the first. Either needs two
    lines. ``reference`` marks the full-precision, unadapted network, ``line_order`` 0 and in every view; an adapter's
    order is its place in the study, the unadapted one being 0 too.
    """
    return outcomes.once(("views", most), lambda: _views(run, most))


def _views(run: Run, most: int) -> pd.DataFrame:
    trials = _arranged(without_oracles(run.trials))
    done = trials[trials["status"] == "done"].drop_duplicates(list(COMBINATION))
    frames = []
    for task, of_task in done.groupby("task", sort=False):
        quantized = trials[(trials["task"] == task) & ~trials["full_precision"]]
        first = quantized["calibration_label"].iloc[:1].tolist()
        usual = of_task[~of_task["full_precision"] & of_task["calibration_label"].isin(first)]
        references = of_task[of_task["full_precision"] & of_task["unadapted"]]
        for view in (_quantizers(usual, most), _adapters(usual)):
            if view.empty:
                continue
            beside = references[references["stream_label"].isin(view["stream_label"])]
            beside = beside.assign(
                view=view["view"].iloc[0], line=beside["quantizer_label"], line_order=0, reference=True
            )
            frames.append(pd.concat([beside, view.assign(reference=False)])[list(VIEW_COLUMNS)])
    # Without a row the marks must still be booleans: they choose rows.
    empty = pd.DataFrame(columns=list(VIEW_COLUMNS)).astype({"reference": bool})
    return pd.concat(frames, ignore_index=True) if frames else empty


def first_stream(views: pd.DataFrame) -> pd.DataFrame:
    """Keep each task's first stream."""
    first = views.drop_duplicates("task")[["task", "stream_label"]]
    return views.merge(first, on=["task", "stream_label"])


def combinations_of(outcomes: Outcomes, methods: pd.DataFrame) -> list[Combination]:
    """Return the outcomes of each row of a frame that has the columns ``COMBINATION``."""
    by_name = {tuple(combination.labels.values()): combination for combination in outcomes.combinations}
    return [by_name[key] for key in methods[list(COMBINATION)].itertuples(index=False, name=None)]


def _arranged(trials: pd.DataFrame) -> pd.DataFrame:
    """Add which trials are in full precision or unadapted, and places of network and adapter in the study's order."""
    references = trials["trial"].isin(trials["reference"])
    unadapted = trials["adapter_label"].isin(trials.loc[references, "adapter_label"])
    adapters = dict.fromkeys([*trials.loc[unadapted, "adapter_label"], *trials["adapter_label"]])
    return trials.assign(
        full_precision=trials["weight_bits"].isna(),
        unadapted=unadapted,
        network_order=trials.groupby(["quantizer_label", "calibration_label"], sort=False).ngroup(),
        adapter_order=trials["adapter_label"].map({name: place for place, name in enumerate(adapters)}),
    )


def _quantizers(usual: pd.DataFrame, most: int) -> pd.DataFrame:
    unadapted = usual[usual["unadapted"]]
    lines = unadapted.drop_duplicates("quantizer_label")
    if len(lines) < 2:
        return unadapted.iloc[:0]
    order = {label: place + 1 for place, label in enumerate(lines["quantizer_label"])}
    kept = lines.sort_values(_BITS, kind="stable")["quantizer_label"].iloc[:most]
    chosen = unadapted[unadapted["quantizer_label"].isin(kept)]
    label = chosen["quantizer_label"]
    return chosen.assign(view=QUANTIZERS, line=label, line_order=label.map(order))


def _adapters(usual: pd.DataFrame) -> pd.DataFrame:
    number = usual.groupby("quantizer_label")["adapter_label"].transform("nunique")
    best = usual.assign(fewer=-number)[number > 1]
    best = best.sort_values([*_BITS, "fewer", "network_order"], kind="stable")
    chosen = usual[usual["quantizer_label"].isin(best["quantizer_label"].iloc[:1])]
    network = chosen["quantizer_label"]
    return chosen.assign(view=network, line=chosen["adapter_label"], line_order=chosen["adapter_order"])
