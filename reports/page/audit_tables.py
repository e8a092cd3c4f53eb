"""The tables of an audit's page: claims by question, what could not be told apart, ranks, costs, checks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd

from evalsuite.analysis.verdict import Claim, Conformance, Cost, GroupDrop, Question, Rank, Verdict
from reports.frames.audit import flat, questions
from reports.page.cells import (
    Cell,
    Column,
    Table,
    interval_column,
    number_column,
    p_column,
    table_of,
    text_column,
    worded_column,
)
from reports.words.audit_page import needed, untold
from reports.words.audit_tiles import ASKED, GLYPHS, TITLES, against
from reports.words.numbers import NOTHING, count, is_missing

_CONDITIONS = (("Task", "task"), ("Bits", "bits"), ("Calibration", "calibration"), ("Adapter", "adapter"))
_PASSED = {"pass": "✓ pass", "fail": "✗ fail", "not applicable": "○ not applicable"}


def claim_tables(verdict: Verdict) -> list[Table]:
    """Return a table per question that was asked: every claim with all that it rests on."""
    return [_claims(question, frame) for question, frame in questions(verdict).items()]


def _claims(question: Question, frame: pd.DataFrame) -> Table:
    errors = question != "cost"
    scale, digits, unit = (100.0, 1, " (%)") if errors else (1.0, 3, "")
    sizes = [
        number_column(f"Target{unit}", "target_value", scale=scale, digits=digits),
        number_column(f"Rival{unit}", "rival_value", scale=scale, digits=digits),
        interval_column("Difference (points)", "estimate", "low", "high")
        if errors
        else number_column("Ratio", "estimate", digits=2),
    ]
    groups = [text_column("Target's group", "target_group"), text_column("Rival's group", "rival_group")]
    tests = [p_column("p", "p"), p_column("p (Holm)", "p_holm"), _units()]
    named = sorted(set(frame["test"]) - {""})
    if len(named) > 1:
        tests.append(text_column("Test", "test", wide=True))
    caption = f"{ASKED[question]} Test: {named[0]}." if len(named) == 1 else ASKED[question]
    columns = [
        text_column("Rival", "rival"),
        *_conditions(frame, always=("bits",)),
        _standing(),
        *(sizes if frame["estimate"].notna().any() else []),
        *(groups if frame["target_group"].astype(bool).any() else []),
        *(tests if frame["p"].notna().any() else []),
        *([text_column("Note", "note", wide=True)] if frame["note"].astype(bool).any() else []),
    ]
    return table_of(f"claims-{question.replace(' ', '-')}", TITLES[question], caption, columns, frame)


def _conditions(frame: pd.DataFrame, always: Sequence[str] = ()) -> list[Column]:
    """Columns of the condition; of several values only, so that what all rows share is not repeated."""
    named = [*_CONDITIONS, ("Stream", "stream")]
    return [text_column(label, field) for label, field in named if field in always or frame[field].nunique() > 1]


def _standing() -> Column:
    return worded_column("Standing", lambda row: f"{GLYPHS[row['standing']]} {row['standing']}", wide=False)


def _units() -> Column:
    def cell(row: Any) -> Cell:
        if is_missing(row.n):
            return Cell(NOTHING, "")
        return Cell(count(int(row.n), row.unit) if row.unit else f"{int(row.n):,}", repr(float(row.n)))

    return Column("n", cell, numeric=True)


def need_table(verdict: Verdict) -> Table | None:
    """Return what could not be told apart, and how many images or draws would tell; None if there is nothing."""
    claims = untold(verdict)
    if not claims:
        return None
    several = len(verdict.tasks) > 1
    frame = flat(claims, Claim).assign(
        title=[TITLES[claim.question] for claim in claims],
        against=[against(claim, several) for claim in claims],
        size=[claim.need.size if claim.need else math.nan for claim in claims],
        power=[claim.need.power if claim.need else math.nan for claim in claims],
        needed=[needed(claim.need) if claim.need else NOTHING for claim in claims],
        why=[claim.need.note if claim.need else "" for claim in claims],
    )
    conditions = [each for each in _conditions(frame) if each.label not in ("Task", "Bits")]
    columns = [
        text_column("Against", "against"),
        text_column("Question", "title"),
        *conditions,
        interval_column("Difference (points)", "estimate", "low", "high"),
        number_column("To tell (points)", "size", scale=100),
        text_column("What would tell", "needed", wide=True),
        number_column("Power (%)", "power", scale=100, digits=0),
        *([text_column("Note", "why", wide=True)] if frame["why"].astype(bool).any() else []),
    ]
    caption = (
        "How many test images a domain, or calibration draws, would tell a difference of this size, from the measured "
        "variance; simulated with the rule of a claim (ours)."
    )
    return table_of("needs", "What would tell", caption, columns, frame)


def drop_table(verdict: Verdict) -> Table | None:
    """Return what every group, or calibration set, loses by the target; None if nothing was measured."""
    if not verdict.drops:
        return None
    frame = flat(verdict.drops, GroupDrop)
    columns = [
        text_column("Name", "name"),
        text_column("Kind", "kind"),
        *_conditions(frame, always=("bits",)),
        interval_column("Loss (points)", "drop", "low", "high"),
        number_column("By chance", "by_chance", scale=100),
        p_column("p (Holm)", "p_holm"),
        worded_column("Claimed", lambda row: "▼ yes" if row["shown"] else "≈ no"),
    ]
    caption = (
        "Error of the target minus that of the full-precision network, without adaptation; by chance: the largest "
        "loss that would be expected if all groups were harmed alike."
    )
    return table_of("drops", "Losses by group", caption, columns, frame)


def rank_table(verdict: Verdict) -> Table | None:
    """Return the ranks of the target and its rivals; None if there are none."""
    if not verdict.ranks:
        return None
    frame = flat(verdict.ranks, Rank)
    columns = [
        _method(),
        *_conditions(frame, always=("bits",)),
        number_column("Mean rank", "mean_rank", digits=2),
        Column("Ranks that the data allow", _allowed, numeric=True),
        number_column("Error (%)", "error", scale=100),
    ]
    return table_of("ranks", "Ranks", "Mean rank over domains; 1 is the lowest error.", columns, frame)


def _method() -> Column:
    return worded_column("Method", lambda row: f"{row['method']} (target)" if row["is_target"] else row["method"])


def _allowed(row: Any) -> Cell:
    return Cell(f"{row.best} to {row.worst}" if row.best != row.worst else f"{row.best}", repr(float(row.best)))


def cost_table(verdict: Verdict) -> Table | None:
    """Return what every method costs; None if it was not measured."""
    if not verdict.costs:
        return None
    frame = flat(verdict.costs, Cost)
    columns = [
        _method(),
        *_conditions(frame, always=("bits",)),
        text_column("Engine", "engine"),
        number_column("Seconds to quantize", "quantize_seconds", digits=2),
        number_column("ms an image", "seconds_per_image", scale=1000, digits=2),
        number_column("Peak memory (MiB)", "peak_bytes", scale=2.0**-20, digits=0),
    ]
    caption = "Times of simulated quantization are no engine's: compare them only with each other. Not tested."
    return table_of("costs", "Costs", caption, columns, frame)


def check_table(verdict: Verdict) -> Table | None:
    """Return every check of the contract with its outcome and, where it failed, the mend; None if none was made."""
    if not verdict.conformance:
        return None
    frame = pd.DataFrame([vars(each) for each in verdict.conformance], columns=list(Conformance.model_fields))
    columns = [
        Column("Check", lambda row: Cell(row.name, row.name), wide=True),
        worded_column("Outcome", lambda row: _PASSED[row["outcome"]], wide=False),
        text_column("What was seen", "message", wide=True),
        text_column("Mend", "mend", wide=True),
        worded_column("If it fails", lambda row: "no verdict" if row["spoils_numbers"] else "a warning", wide=False),
    ]
    return table_of("checks", "Checks", "Made on the target alone, before anything was measured.", columns, frame)
