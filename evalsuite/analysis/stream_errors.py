"""Error along the stream, stretch by stretch."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from evalsuite.analysis._settings import Settings
from evalsuite.analysis.outcomes import COMBINATION, Combination, Outcomes
from evalsuite.analysis.stream_rows import StreamRows, alike, curve, in_rows, panels, streams_of
from evalsuite.store import Run

MOST = 24
"""Stretches that a stream is described by."""
STREAM_COLUMNS = (*COMBINATION, "stretch", "until", "domain", "severity", "error", "low", "high", "images")


def stream_errors_of(run: Run, outcomes: Outcomes, settings: Settings) -> pd.DataFrame:
    """Return a row per method combination and stretch of the streams that several adapters met.

    Oracles are among them.

    A stretch shows one domain without a break; where there are more than 24 or only one, or where seeds differ in
    their number, the stream is cut into 24 equal ones.

    Returns
    -------
    ``stretch`` from 0. ``until``: how many images the stream has shown at its end. ``domain`` and ``severity`` it
    shows, empty where seeds differ in that, or the stream was cut. ``error`` over images and seeds with its 95 %
    interval ``low``, ``high``; ``images`` of the stretch.
    """
    if outcomes.oracles:
        outcomes = replace(outcomes, combinations=[*outcomes.combinations, *outcomes.oracles])
    frames = []
    for combinations in panels(outcomes).values():
        if len({combination.adapter for combination in combinations}) > 1:
            frames += _panel(run, outcomes, combinations)
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=STREAM_COLUMNS)


def _panel(run: Run, outcomes: Outcomes, combinations: list[Combination]) -> list[pd.DataFrame]:
    streams = streams_of(run, outcomes, combinations)
    numbers = {int(stream.stretch[-1]) + 1 for stream in streams.values()}
    whole = len(numbers) == 1 and 1 < max(numbers) <= MOST
    described = _described(list(streams.values()), whole)

    def stretch(stream: StreamRows) -> NDArray[np.int64]:
        return stream.stretch if whole else _equal(stream)

    return [
        frame.rename(columns={"group": "stretch"}).merge(described, on="stretch", how="left")[list(STREAM_COLUMNS)]
        for rows, seeds, members, wrong in alike(outcomes, combinations)
        for frame in curve(wrong, in_rows(streams, seeds, stretch), rows).frames(members)
    ]


def _equal(stream: StreamRows) -> NDArray[np.int64]:
    return np.arange(len(stream.image)) * MOST // len(stream.image)


def _described(streams: list[StreamRows], whole: bool) -> pd.DataFrame:
    """Say where each stretch ends and what it shows, where all seeds agree."""
    length = max(len(stream.image) for stream in streams)
    if not whole:
        until = [length * (number + 1) // MOST for number in range(MOST)]
        return pd.DataFrame({"stretch": range(MOST), "until": until, "domain": None, "severity": None})
    rows: list[dict[str, Any]] = []
    for number in range(int(streams[0].stretch[-1]) + 1):
        firsts = [int(np.argmax(stream.stretch == number)) for stream in streams]
        ends = [int(np.count_nonzero(stream.stretch <= number)) for stream in streams]
        shown = zip(streams, firsts, strict=True)
        domains = {(stream.names[stream.name[first]], int(stream.severity[first])) for stream, first in shown}
        names, severities = {name for name, _ in domains}, {severity for _, severity in domains}
        rows.append(
            {
                "stretch": number,
                "until": max(ends),
                "domain": names.pop() if len(names) == 1 else None,
                "severity": severities.pop() if len(domains) == 1 else None,
            }
        )
    return pd.DataFrame(rows)
