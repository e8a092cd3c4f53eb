"""How a run's trials become the rows of figures and tables: groups of adapters under one quantized network."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pandas as pd

from evalsuite.corruptions import COMMON, HELD_OUT
from evalsuite.oracles import oracles, without_oracles
from evalsuite.streams import CLEAN

if TYPE_CHECKING:
    from evalsuite.store import Run

KEYS = ["task", "calibration_label", "quantizer_label", "adapter_label", "stream_label"]
"""What makes a method combination; its seeds are replicates."""
ORDER = ["task_order", "stream_order", "network_order", "adapter_order"]
"""How reports arrange combinations."""
DOMAINS = {name: place for place, name in enumerate((CLEAN, *COMMON, *HELD_OUT))}
"""Places of the known domains; others come after them."""
_MOST_NETWORKS = 24


def labelled(run: Run, *, with_oracles: bool = False) -> pd.DataFrame:
    """Return the trials, by default those of methods, with the columns by which reports arrange them.

    Returns
    -------
    ``run.trials`` and, added on the right: ``full_precision``, ``unadapted``, ``network`` (the quantizer's
    label, with the calibration set where the quantizer saw several), and places in the study's order,
    ``task_order``, ``stream_order``, ``network_order`` (full precision first), ``adapter_order`` (unadapted
    first). ``with_oracles`` theirs are there too, after all methods, and a column ``oracle`` marks them.

    Notes
    -----
    The unadapted label is that of the reference trials, so that no method's name is looked at.
    """
    trials = run.trials.copy() if with_oracles else without_oracles(run.trials).copy()
    references = trials["trial"].isin(trials["reference"])
    trials["full_precision"] = trials["weight_bits"].isna()
    trials["unadapted"] = trials["adapter_label"].isin(trials.loc[references, "adapter_label"])
    several = trials.groupby("quantizer_label")["calibration_label"].transform("nunique") > 1
    label = trials["quantizer_label"].astype(str)
    trials["network"] = label.where(~several, label + " (" + trials["calibration_label"].astype(str) + ")")
    trials["task_order"], trials["stream_order"] = (pd.factorize(trials[key])[0] for key in ("task", "stream_label"))
    trials["network_order"] = _order(trials["network"], first=trials["full_precision"])
    told = oracles(trials)
    trials["adapter_order"] = _order(trials["adapter_label"], first=trials["unadapted"], last=told)
    return trials.assign(oracle=told) if with_oracles else trials


def unadapted_first(run: Run, table: pd.DataFrame) -> pd.DataFrame:
    """Keep the rows about networks without adaptation in each task's first stream, and add their ``network``."""
    trials = labelled(run)
    names = trials.loc[trials["unadapted"], [*KEYS, "network"]].drop_duplicates(KEYS)
    return table.merge(names, on=KEYS).merge(trials.drop_duplicates("task")[["task", "stream_label"]])


def _order(values: pd.Series, *, first: pd.Series, last: pd.Series | None = None) -> pd.Series:
    end = pd.Series(False, values.index) if last is None else last
    names = pd.concat([values[first], values[~first & ~end], values[end]]).drop_duplicates()
    return values.map({name: place for place, name in enumerate(names)})


def combinations(run: Run) -> pd.DataFrame:
    """Return a row per method combination, its keys and what :func:`labelled` adds, task by task, stream by stream."""
    table = labelled(run).drop_duplicates(KEYS)[[*KEYS, "full_precision", "unadapted", "network", *ORDER]]
    return table.sort_values(ORDER, ignore_index=True)


def with_room(table: pd.DataFrame) -> pd.DataFrame:
    """Keep the study's first calibration set alone where a task has more than 24 networks: a figure has no more room.

    ``table`` has the columns that :func:`labelled` adds; networks then go by the quantizer alone.
    """
    frames = []
    for _, own in table.groupby("task", sort=False):
        if own["network"].nunique() > _MOST_NETWORKS:
            quantized = own[~own["full_precision"]].sort_values("network_order")
            usual = own["calibration_label"].isin(quantized["calibration_label"].iloc[:1])
            own = own[usual | own["full_precision"]]
            own = own.assign(network=own["quantizer_label"].astype(str))
        frames.append(own)
    return pd.concat(frames) if frames else table


def each_row(frame: pd.DataFrame) -> Iterator[Any]:
    """Walk through a frame's rows as objects with a field per column, and ``Index``, that no type checker can know."""
    for index, row in zip(frame.index, _tuples(frame), strict=True):
        yield SimpleNamespace(Index=index, **dict(zip(frame.columns, row, strict=True)))


def as_rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return a frame's rows by column, for columns whose names are no names of fields."""
    return [dict(zip(frame.columns, row, strict=True)) for row in _tuples(frame)]


def _tuples(frame: pd.DataFrame) -> Iterator[tuple[Any, ...]]:
    """Walk through a frame's rows; pandas' own ``itertuples`` takes texts out of Arrow one by one."""
    columns = [frame.iloc[:, place] for place in range(frame.shape[1])]
    texts = (isinstance(column.dtype, pd.StringDtype) for column in columns)
    values = [column.to_numpy(object) if text else column for column, text in zip(columns, texts, strict=True)]
    return zip(*values, strict=True) if values else iter([()] * len(frame))


def readable(name: str) -> str:
    """Return a corruption's or option's name as people write it: ``gaussian_noise`` is gaussian noise."""
    return name.replace("_", " ")
