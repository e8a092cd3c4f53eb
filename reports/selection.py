"""Which results are shown, and under which names: applied to frames before anything is drawn of them."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from evalsuite.analysis.families import VARIES, context_in_words
from evalsuite.errors import RequestError, unknown_name
from evalsuite.store import Run
from evalsuite.study.report import Report
from reports.frames.evidence import Evidence, evidence
from reports.frames.methods import KEYS, as_rows, labelled
from reports.frames.views import VIEW

_COLUMNS = {"task": "task"} | {name: f"{name}_label" for name in ("calibration", "quantizer", "adapter", "stream")}
_NAMED = (
    *("network", "line", "view", "method", "base", "best", "worst", "a", "b", "name", "domain", "worst_class"),
    *("worst_drop_class", "worst_drop_domain", "worst_domain", "label", "prediction"),
)
"""Columns that hold labels beside ``KEYS``; ``network`` and ``line`` may hold labels put together."""
_LINE = [*VIEW, "line"]


@dataclass(frozen=True, eq=False)
class Selection:
    """What is shown of a run.

    Attributes
    ----------
    labels : for each of ``KEYS``, and ``network``, what is shown; None: all.
    lines : the rows of ``views.csv``, by the columns ``VIEW`` and ``line``, that are shown; None: all.
    names : what is called how.
    asked : what was selected, as it was asked for.
    called : what the reader calls how; ``names`` has what follows from it too.
    """

    labels: Mapping[str, frozenset[Any]] | None
    lines: frozenset[tuple[Any, ...]] | None
    names: Mapping[str, str]
    asked: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    called: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, run: Run, report: Report) -> Selection:
        """Find what is asked for in a run.

        Raises
        ------
        RequestError
            If a name is none of the run's, nothing is left, or two labels get one name.
        """
        trials = labelled(run)
        names = _names(trials, report.rename, evidence(run))
        if not report.select:
            return cls(None, None, names, called=report.rename)
        kept = pd.Series(True, index=trials.index)
        labels: dict[str, frozenset[Any]] = {}
        for key, wanted in report.select.items():
            kept &= _matches(trials, key, wanted)
        if not kept.any():
            said = "; ".join(f"{key}={','.join(own)}" for key, own in report.select.items())
            raise RequestError(f"select {said}: no trial has all of these; expected a combination that was run")
        for column in (*KEYS, "network"):
            labels[column] = frozenset(trials.loc[kept, column].dropna())
        views = evidence(run).estimates["views"]
        shown = views["reference"].astype(bool)
        own = pd.Series(True, index=views.index)
        for column in KEYS:
            own &= views[column].isin(labels[column])
        lines = views.loc[own | (shown & views["task"].isin(labels["task"])), _LINE]
        shown_lines = frozenset(lines.itertuples(index=False, name=None))
        return cls(labels, shown_lines, names, report.select, report.rename)

    def of_evidence(self, found: Evidence) -> Evidence:
        """Return the evidence of what is shown, under the names that were asked for; no number of it changes."""
        if self.labels is None and not self.names:
            return found
        shown = replace(
            found.analysis,
            summary=self.of_frame(found.summary),
            comparisons=self.of_frame(found.comparisons),
            rankings=self.of_frame(found.rankings),
            estimates={name: self.of_frame(table) for name, table in found.estimates.items()},
        )
        return Evidence(shown, self.of_frame(found.methods))

    def of_frame(self, data: pd.DataFrame) -> pd.DataFrame:
        """Return a frame's rows that are shown, under the names that were asked for."""
        return self.renamed(self.kept(data))

    def kept(self, data: pd.DataFrame) -> pd.DataFrame:
        """Return a frame's rows that are shown; what it has no column for is left as it is."""
        if self.labels is None or data.empty:
            return data
        kept = pd.Series(True, index=data.index)
        lines = set(_LINE) <= set(data.columns)
        for column, allowed in self.labels.items():
            if column in data.columns and not (lines and column != "task"):
                empty = data[column].isna() | data[column].eq("")
                kept &= data[column].isin(allowed) | empty
        if lines and self.lines is not None:
            kept &= np.array([row in self.lines for row in data[_LINE].itertuples(index=False, name=None)], bool)
        if {"factor", "method"} <= set(data.columns):
            shown = [row["method"] in self.labels[f"{row['factor']}_label"] for row in as_rows(data)]
            kept &= np.array(shown, bool)
        if {"factor", "a", "b"} <= set(data.columns):
            kept &= np.array([self._shows_both(row) for row in as_rows(data)], bool)
        if "reference" in data.columns:
            kept = _with_references(data, kept)
        return data[kept].reset_index(drop=True)

    def _shows_both(self, pair: Mapping[str, Any]) -> bool:
        """Tell whether both of a pair that is compared are shown."""
        assert self.labels is not None
        shown = self.labels[f"{VARIES.get(pair['factor'], pair['factor'])}_label"]
        return pair["a"] in shown and pair["b"] in shown

    def renamed(self, data: pd.DataFrame) -> pd.DataFrame:
        """Return a frame whose labels have the names that were asked for."""
        if not self.names:
            return data
        columns = [name for name in (*KEYS, *_NAMED) if name in data.columns]
        named = data.assign(**{name: data[name].map(lambda label: self.names.get(label, label)) for name in columns})
        if {"context", *KEYS[1:]} <= set(named.columns):
            named["context"] = [context_in_words(row) for row in as_rows(named)]
        return named


def _with_references(data: pd.DataFrame, kept: pd.Series) -> pd.Series:
    """Keep references wherever something is kept that they are drawn beside."""
    reference = data["reference"].astype(bool)
    panel = [name for name in VIEW if name in data.columns]
    beside = (kept & ~reference).groupby([data[name] for name in panel]).transform("any")
    return (kept & ~reference) | (reference & beside)


def _matches(trials: pd.DataFrame, key: str, wanted: Iterable[str]) -> pd.Series:
    """Tell which trials a key's values choose: by label, or by the name of the method."""
    column = _COLUMNS.get(key, key)
    columns = [trials[name].astype("string") for name in dict.fromkeys((column, key)) if name in trials.columns]
    known = {str(name) for each in columns for name in each.dropna().unique()}
    found = set()
    for text in wanted:
        parts = [text] if text in known else [part.strip() for part in text.split(",") if part.strip()]
        for part in parts:
            if part not in known:
                raise unknown_name(f"{key} in select", part, known)
            found.add(part)
    return functools.reduce(lambda a, b: a | b, [each.isin(found).fillna(False).astype(bool) for each in columns])


def _names(trials: pd.DataFrame, rename: Mapping[str, str], found: Evidence) -> dict[str, str]:
    """Return what labels are called, networks included, which a quantizer and its calibration set name together."""
    if not rename:
        return {}
    known = {str(label) for column in KEYS for label in trials[column].dropna().unique()}
    others = {str(name) for name in found.estimates["group_drops"]["name"].unique()}
    for label in rename:
        if label not in known | others:
            raise unknown_name("label to rename", label, known | others)
    for column in KEYS:
        labels = [str(label) for label in trials[column].dropna().unique()]
        called = [rename.get(label, label) for label in labels]
        for name in called:
            if called.count(name) > 1:
                both = [label for label in labels if rename.get(label, label) == name]
                raise RequestError(f"rename calls {' and '.join(both)} alike, {name!r}: expected a name for each")
    names = dict(rename)
    networks = trials.drop_duplicates("network")
    for row in as_rows(networks[["network", "quantizer_label", "calibration_label"]]):
        quantizer, calibration = (str(row[key]) for key in ("quantizer_label", "calibration_label"))
        if row["network"] != quantizer:
            named = f"{rename.get(quantizer, quantizer)} ({rename.get(calibration, calibration)})"
            names.setdefault(str(row["network"]), named)
    return names
