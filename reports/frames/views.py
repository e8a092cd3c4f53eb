"""What a figure compares: quantizers all else equal, and adapters on one quantized network."""

from __future__ import annotations

import pandas as pd

from evalsuite.analysis.outcomes import Combination, Outcomes
from evalsuite.store import Run
from reports.frames.methods import KEYS, labelled

_MOST = 7
"""Lines that one panel has room for."""
VIEW = ["task", "view", "stream_label"]
VIEWED = [*KEYS, "view", "line", "line_order", "reference"]
_BITS = ["weight_bits", "activation_bits"]
QUANTIZERS = "quantizers"


def views(run: Run, *, most: int = _MOST) -> pd.DataFrame:
    """Return the method combinations that are drawn against each other, a row per (task, view, stream, line).

    The view ``quantizers`` has those without adaptation, under the study's first calibration set; of more than
    ``most`` those with the fewest bits, in the study's order. The view that is named after a network has the adapters
    on it: the network with the fewest bits, of these the one with most adapters, then the first. Either needs two
    lines. ``reference`` marks the full-precision, unadapted network, ``line_order`` 0 and in every view; an adapter's
    order is its place in the study, the unadapted one being 0 too.
    """
    trials = labelled(run)
    done = trials[trials["status"] == "done"].drop_duplicates(KEYS)
    frames = []
    for task, own in done.groupby("task", sort=False):
        quantized = trials[(trials["task"] == task) & ~trials["full_precision"]]
        first = quantized["calibration_label"].iloc[:1].tolist()
        usual = own[~own["full_precision"] & own["calibration_label"].isin(first)]
        chosen = [_quantizers(usual, most), _adapters(usual)]
        for view in chosen:
            if view.empty:
                continue
            references = own[own["full_precision"] & own["unadapted"] & own["stream_label"].isin(view["stream_label"])]
            references = references.assign(
                view=view["view"].iloc[0], line=references["quantizer_label"], line_order=0, reference=True
            )
            frames.append(pd.concat([references, view.assign(reference=False)])[VIEWED])
    # Without a row the marks must still be booleans: they choose rows.
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=VIEWED).astype({"reference": bool})


def first_stream(views: pd.DataFrame) -> pd.DataFrame:
    """Keep each task's first stream."""
    first = views.drop_duplicates("task")[["task", "stream_label"]]
    return views.merge(first, on=["task", "stream_label"])


def combinations_of(outcomes: Outcomes, methods: pd.DataFrame) -> list[Combination]:
    """Return the outcomes of each row of a frame that has the columns ``KEYS``."""
    by_name = {
        tuple(getattr(each, name.removesuffix("_label")) for name in KEYS): each for each in outcomes.combinations
    }
    return [by_name[key] for key in methods[KEYS].itertuples(index=False, name=None)]


def _quantizers(usual: pd.DataFrame, most: int) -> pd.DataFrame:
    own = usual[usual["unadapted"]]
    lines = own.drop_duplicates("quantizer_label")
    if len(lines) < 2:
        return own.iloc[:0]
    order = {label: place + 1 for place, label in enumerate(lines["quantizer_label"])}
    kept = lines.sort_values(_BITS, kind="stable")["quantizer_label"].iloc[:most]
    own = own[own["quantizer_label"].isin(kept)]
    return own.assign(view=QUANTIZERS, line=own["quantizer_label"], line_order=own["quantizer_label"].map(order))


def _adapters(usual: pd.DataFrame) -> pd.DataFrame:
    number = usual.groupby("quantizer_label")["adapter_label"].transform("nunique")
    best = usual.assign(fewer=-number)[number > 1]
    best = best.sort_values([*_BITS, "fewer", "network_order"], kind="stable")
    own = usual[usual["quantizer_label"].isin(best["quantizer_label"].iloc[:1])]
    network = own["quantizer_label"]
    return own.assign(view=network, line=own["adapter_label"], line_order=own["adapter_order"])
