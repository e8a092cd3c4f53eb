"""Why quantized networks break, in sentences: the layer and the domain where codes stay unused, or are not enough."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd

from evalsuite.streams import CLEAN
from reports.frames.diagnosis import of_domains
from reports.frames.methods import each_row, readable
from reports.words.numbers import count, is_missing, number, percent

QUESTION = "Why do quantized networks break?"
_SPACE = "\N{NO-BREAK SPACE}"


def of_diagnoses(found: pd.DataFrame) -> Iterator[str]:
    """Say of each network which layer leaves most codes unused, clips most, and has the most noise; of one task.

    ``found``: what :func:`reports.frames.diagnosis.diagnosis` returns.
    """
    domains = of_domains(found)
    for network, own in domains.groupby("network", sort=False):
        yield " ".join(_of_network(str(network), own))
    if len(domains):
        images = int(domains["images"].max())
        yield f"Each is of {count(images, 'image')} of a domain and as many calibration images; nothing is tested."


def _of_network(network: str, own: pd.DataFrame) -> Iterator[str]:
    known = own[own["unused_change"].notna()]
    if known.empty:
        yield f"{network} has no integers of activations whose use could be counted."
    else:
        row = _first(known, "unused_change", largest=True)
        if row.unused_change > 0:
            yield (
                f"{network}: under {domain_name(row)}, {percent(row.unused)} of the codes of {row.layer} stay unused "
                f"(calibration: {percent(row.calibration_unused)})."
            )
        else:
            yield f"{network}: no layer leaves more of its codes unused than on calibration images."
        yield from _clipped(known)
    row = _first(own[own["snr_db"].notna()], "snr_db", largest=False)
    if row is not None:
        yield (
            f"Its output is noisiest at {row.layer} under {domain_name(row)}, with {_decibels(row.snr_db)} of signal "
            f"over quantization noise (calibration: {_decibels(row.calibration_snr_db)})."
        )


def _clipped(known: pd.DataFrame) -> Iterator[str]:
    change = known.assign(clipped_change=known["clipped"] - known["calibration_clipped"])
    row = _first(change, "clipped_change", largest=True)
    if row.clipped_change >= 0.0005:  # what a tenth of a per cent is rounded to
        yield (
            f"Under {domain_name(row)}, {percent(row.clipped)} of what {row.layer} is given lies beyond its grid "
            f"(calibration: {percent(row.calibration_clipped)})."
        )


def domain_name(row: Any) -> str:
    """Name a row's domain: clean images, contrast 5."""
    if row.domain == CLEAN:
        return "clean images"
    return readable(str(row.domain)) + ("" if is_missing(row.severity) else f"{_SPACE}{int(row.severity)}")


def _first(rows: pd.DataFrame, column: str, *, largest: bool) -> Any:
    ordered = rows.sort_values(column, ascending=not largest, kind="stable")
    return next(each_row(ordered.iloc[:1]), None)


def _decibels(value: float) -> str:
    return f"{number(value)}{_SPACE}dB"
