"""The same domains again and again: errors by round, and what each domain has lost since its best earlier round."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from evalsuite.analysis._settings import Settings
from evalsuite.analysis.outcomes import COMBINATION, Combination, Int8Array, Outcomes, Rows
from evalsuite.analysis.stream_rows import StreamRows, alike, curve, in_rows, panels, streams_of
from evalsuite.metrics import forgetting, group_means
from evalsuite.store import Run

ROUND_COLUMNS = (*COMBINATION, "round", "error", "low", "high", "images")
FORGETTING_COLUMNS = (*COMBINATION, "domain", "severity", "rounds", "forgotten")


def rounds_of(run: Run, outcomes: Outcomes, settings: Settings) -> pd.DataFrame:
    """Return a row per method combination and round of the streams that have several.

    Returns
    -------
    ``round`` from 1; ``error`` over images and seeds with its 95 % interval ``low``, ``high``; ``images`` of the round.
    Which round an image is shown in is said by the records (:meth:`evalsuite.streams.Stream.rounds`).
    """
    frames = [
        frame.rename(columns={"group": "round"}).assign(round=lambda table: table["round"] + 1)
        for streams, combinations in _recurring(run, outcomes)
        for rows, seeds, members, wrong in alike(outcomes, combinations)
        for frame in curve(wrong, in_rows(streams, seeds, _round), rows).frames(members)
    ]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=ROUND_COLUMNS)


def forgetting_of(run: Run, outcomes: Outcomes, settings: Settings) -> pd.DataFrame:
    """Return a row per method combination and domain of the streams that have several rounds.

    ``forgotten`` is the error in the last of the ``rounds`` minus that in the best earlier one
    (:func:`evalsuite.metrics.forgetting`); domains that a round leaves out have none.
    """
    frames = [
        frame
        for streams, combinations in _recurring(run, outcomes)
        for rows, seeds, members, wrong in alike(outcomes, combinations)
        for frame in _forgotten(streams, rows, seeds, members, wrong)
    ]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=FORGETTING_COLUMNS)


def _recurring(run: Run, outcomes: Outcomes) -> Iterator[tuple[dict[int, StreamRows], list[Combination]]]:
    for combinations in panels(outcomes).values():
        streams = streams_of(run, outcomes, combinations)
        if all(rows.round is not None and rows.round.max() > 0 for rows in streams.values()):
            yield streams, combinations


def _round(stream: StreamRows) -> NDArray[np.int64]:
    if stream.round is None:
        raise ValueError("a stream of unknown rounds")
    return stream.round


def _forgotten(
    streams: dict[int, StreamRows], rows: Rows, seeds: list[int], members: list[Combination], wrong: Int8Array
) -> Iterator[pd.DataFrame]:
    rounds = in_rows(streams, seeds, _round)
    number = int(rounds.max()) + 1
    means, sizes = group_means(wrong, rounds * len(rows.domains) + rows.domain, number * len(rows.domains))
    shown: NDArray[np.bool_] = np.all(sizes.reshape(number, -1) > 0, axis=0)
    if not shown.any():  # a round of its own severities, say
        return
    names, severities = zip(*(domain for domain, kept in zip(rows.domains, shown, strict=True) if kept), strict=True)
    for combination, mean in zip(members, means.T, strict=True):
        lost = forgetting(mean.reshape(number, -1)[:, shown])
        columns = {"domain": names, "severity": severities, "rounds": number, "forgotten": lost}
        yield pd.DataFrame(combination.labels | columns)
