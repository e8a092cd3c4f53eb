"""What is asked together: the columns on which Holm's families are formed, and how they are worded.

Families are formed, and rows are found, by codes and labels. The wording is made of these wherever it is shown, in the
CSVs too, whose columns ``context`` and ``family`` are for people alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

IN_COMMON = ("quantizer_label", "calibration_label", "adapter_label", "stream_label")
"""The columns that say what is alike in all methods compared or ranked; that of the factor that varies is empty."""

VARIES: dict[str, str] = {"adapter pair": "adapter"}
"""What differs in the pairs of a factor that is not named after it."""

_NAMES = dict(zip(IN_COMMON, ("quantizer", "calibration", "adapter", "stream"), strict=True))

QUESTIONS = {
    "adapters_against_none": "adapters against none",
    "adapters_in_pairs": "adapters in pairs",
    "calibration_sets_against_first": "calibration sets against the first",
    "quantizers_against_full_precision": "quantizers against full precision",
    "quantizers_at_bits": "quantizers at {bits}",
    "quantizers_across_bits": "quantizers across bits",
    "networks_without_adaptation": "networks without adaptation",
    "adapters_of_network": "adapters of {quantizer_label}",
}
"""Every code of the column ``question``, and its wording from the other columns."""


def comparison_families(comparisons: pd.DataFrame) -> pd.Series:
    """Return the number of each row's family, the rows that answer one question of one task, all else equal."""
    return _numbered(comparisons, ["task", "question", "bits", *IN_COMMON])


def wider_families(comparisons: pd.DataFrame) -> pd.Series:
    """Return the number of each row's wider family: one task, factor and context, whatever the bits."""
    return _numbered(comparisons, ["task", "factor", *IN_COMMON])


def worst_group_families(summary: pd.DataFrame) -> pd.Series:
    """Return the number of the family of each row's worst-group tests.

    Which quantized networks are harmed unequally, is asked of the networks with one calibration set, without
    adaptation; with which adapters one network is, of these. Both on one stream, so that predictions which several
    orders of the images share count once. A choice of ours.
    """
    network = summary["quantizer_label"].where(summary["question"] == "adapters_of_network")
    keys = ["task", "question", "calibration_label", "quantizer_label", "stream_label"]
    return _numbered(summary.assign(quantizer_label=network), keys)


def context_in_words(row: Mapping[Any, Any]) -> str:
    """Word what methods have in common: ``quantizer rtn W4A4, calibration 64 images, stream usual``."""
    labels = {name: row.get(name) for name in IN_COMMON}
    return ", ".join(f"{_NAMES[name]} {label}" for name, label in labels.items() if isinstance(label, str))


def family_in_words(row: Mapping[Any, Any]) -> str:
    """Word the question that a row of ``comparisons.csv`` helps to answer, and what both have in common."""
    return f"{QUESTIONS[row['question']].format(bits=row['bits'])}, {context_in_words(row)}"


def worst_group_family_in_words(row: Mapping[Any, Any]) -> str:
    """Word the question that a row of ``summary.csv`` helps to answer."""
    asked = QUESTIONS[row["question"]].format(quantizer_label=row["quantizer_label"])
    return f"{asked}, {context_in_words({name: row[name] for name in ('calibration_label', 'stream_label')})}"


def _numbered(frame: pd.DataFrame, columns: list[str]) -> pd.Series:
    return frame.groupby(columns, sort=False, dropna=False).ngroup()
