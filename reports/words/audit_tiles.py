"""The tiles of an audit: how a target stands against each rival, question by question."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import get_args

from evalsuite.analysis.verdict import Claim, Question, Standing, Verdict
from reports.frames.methods import readable
from reports.words.numbers import number

GLYPHS: dict[Standing, str] = {"better": "▲", "not told apart": "≈", "worse": "▼", "not tested": "○"}
"""A shape for each standing, so that none is told by colour alone."""
STANDS: dict[Standing, str] = {
    "better": "better than",
    "not told apart": "not told apart from",
    "worse": "worse than",
    "not tested": "not tested against",
}
TITLES: dict[Question, str] = {
    "mean": "Mean error",
    "worst class": "Worst class",
    "calibration": "Calibration set",
    "noise": "Noise",
    "adaptation": "With adaptation",
    "streams": "Streams",
    "cost": "Cost",
    "engine": "Engine",
}
ASKED: dict[Question, str] = {
    "mean": "Over all images and domains, without adaptation.",
    "worst class": "Error of its worst class minus that of the rival's.",
    "calibration": "What a shifted calibration set adds to its error, minus what it adds to the rival's.",
    "noise": "Error in its worst corruption minus that in the rival's.",
    "adaptation": "Each adapter on the continual stream, the same for both.",
    "streams": "Error on further streams, such as one whose classes come unevenly.",
    "cost": "Time against the rival's; not tested.",
    "engine": "What computes, and whether another engine could.",
}
UNFOLDED = 6
"""Lines of a tile that are seen at once: where there are more, the gravest come first."""
_VARYING = ("calibration", "adapter", "stream")
_SEVERITY: list[Standing] = ["worse", "better", "not told apart", "not tested"]
_SPACE = "\N{NO-BREAK SPACE}"
_TIMES = "\N{MULTIPLICATION SIGN}"


@dataclass(frozen=True)
class Line:
    """The target against one rival at one bit width: the claim that matters most, and how many there are."""

    standing: Standing
    against: str
    """Rival, bits and, where there are several, task."""
    difference: str
    detail: str
    """What the claim is of, where the question has several, and in how many of them the target stands so."""

    weight: tuple[int, float] = (0, 0.0)
    """By which lines are ordered: the gravest standing first, then the largest difference."""

    @property
    def glyph(self) -> str:
        """The standing's shape."""
        return GLYPHS[self.standing]


@dataclass(frozen=True)
class Tile:
    """One question and how the target stands against every rival."""

    question: Question
    title: str
    asked: str
    tally: str
    lines: tuple[Line, ...]
    shared: str = ""
    """The detail of all lines, where it is the same."""
    gravest: Standing = "not tested"
    """Worse, if it is that against any rival; then better."""


def short(name: str, most: int = 48) -> str:
    """Return a name with its middle left out where it is too long for a tile or a line."""
    half = (most - 1) // 2
    return name if len(name) <= most else f"{name[:half]}…{name[-half:]}"


def signed(fraction: float | None) -> str:
    """Write a difference in percentage points with its sign, without the unit."""
    text = number(fraction if fraction is None else fraction * 100)
    return f"+{text}" if fraction is not None and fraction > 0 and float(text) else text


def size(claim: Claim) -> str:
    """Write a claim's difference in points without the unit; of a cost its ratio."""
    if claim.estimate is None:
        return ""
    return f"{_TIMES}{_SPACE}{claim.estimate:.2g}" if claim.question == "cost" else signed(claim.estimate)


def difference(claim: Claim) -> str:
    """Write a claim's size with its interval; of a cost with both values."""
    if claim.question == "cost":
        edges = [f"{value:.3g}" for value in (claim.target_value, claim.rival_value) if value is not None]
    else:
        edges = [number(value * 100) for value in (claim.low, claim.high) if value is not None]
    if claim.estimate is None or len(edges) < 2:
        return size(claim)
    return f"{size(claim)} ({(' / ' if claim.question == 'cost' else ' to ').join(edges)})"


def tiles(verdict: Verdict) -> list[Tile]:
    """Return a tile per question, in the order of the questions; one that was not asked says so."""
    several = len(verdict.tasks) > 1
    return [_tile(question, verdict, several) for question in get_args(Question)]


def _tile(question: Question, verdict: Verdict, several: bool) -> Tile:
    claims = [claim for claim in verdict.claims if claim.question == question]
    fields = varying(claims)
    pairs: dict[tuple[str, str, str], list[Claim]] = {}
    for claim in claims:
        pairs.setdefault((claim.condition.task, claim.rival, claim.condition.bits), []).append(claim)
    lines = tuple(_line(own, fields, several) for own in pairs.values())
    standings = [line.standing for line in lines]
    tally = ", ".join(f"{each} {standings.count(each)}" for each in _SEVERITY if each in standings)
    details = {line.detail for line in lines}
    shared = details.pop() if len(details) == 1 else ""
    if shared:
        lines = tuple(replace(line, detail="") for line in lines)
    if not any(line.standing != "not tested" or line.difference or line.detail for line in lines):
        lines = tuple(replace(line, against="any rival") for line in lines[:1])
    if len(lines) > UNFOLDED:
        lines = tuple(sorted(lines, key=lambda line: line.weight))
    gravest: Standing = min(standings, key=_SEVERITY.index, default="not tested")
    return Tile(question, TITLES[question], ASKED[question], tally or "not asked", lines, shared, gravest)


def varying(claims: Sequence[Claim]) -> list[str]:
    """Return what distinguishes the claims of a question beside rival, bits and task: fields of their conditions."""
    return [field for field in _VARYING if len({getattr(claim.condition, field) for claim in claims}) > 1]


def condition_of(claim: Claim, fields: Sequence[str]) -> str:
    """Name a claim's condition by these fields."""
    return " · ".join(filter(None, (getattr(claim.condition, field) for field in fields)))


def leading(claims: Sequence[Claim]) -> Claim:
    """Return the claim that matters most: worse before better before not told apart, then the largest difference.

    Of claims that are not tested, the first.
    """
    return min(claims, key=_weight)


def _weight(claim: Claim) -> tuple[int, float]:
    return _SEVERITY.index(claim.standing), 0.0 if claim.standing == "not tested" else -abs(claim.estimate or 0.0)


def _line(claims: Sequence[Claim], fields: Sequence[str], several: bool) -> Line:
    first = leading(claims)
    tested = [claim for claim in claims if claim.standing != "not tested"]
    alike = sum(claim.standing == first.standing for claim in tested)
    said = [condition_of(first, fields), _worst(first), first.note]
    if len(tested) > 1:
        said.append(f"{first.standing} in {alike} of {len(tested)}")
    beside = (claim for claim in claims if claim.standing == "not tested" and claim is not first)
    said.extend(" ".join(filter(None, (claim.note, size(claim)))) for claim in beside)
    detail = "; ".join(filter(None, said))
    return Line(first.standing, against(first, several), difference(first), detail, _weight(first))


def _worst(claim: Claim) -> str:
    """Name the worst groups that a claim is of; empty where it is of none."""
    own, rival = (readable(name) if claim.question == "noise" else name for name in _groups(claim))
    if not own:
        return ""
    if own == rival:
        return f"worst of both: {short(own)}"
    return f"its worst: {short(own)}" + (f", the rival's: {short(rival)}" if rival else "")


def _groups(claim: Claim) -> tuple[str, str]:
    return claim.target_group, claim.rival_group


def against(claim: Claim, several: bool) -> str:
    """Name the rival with its bits and, where the audit has several tasks, the task."""
    label = " ".join(filter(None, (short(claim.rival), claim.condition.bits)))
    return f"{label}, {short(claim.condition.task)}" if several and claim.condition.task else label


def tile_line(tile: Tile) -> str:
    """Say the tile in a line: the gravest and largest difference, of what it is, and how many stand how."""
    line = min(tile.lines, key=lambda each: each.weight)
    said = f"{tile.title}: {line.glyph} {STANDS[line.standing]} {line.against}"
    size = f"{line.difference} points" if line.difference and tile.question != "cost" else line.difference
    detail = tile.shared or line.detail
    return " ".join(filter(None, (said, size, f"({detail})" if detail else "", f"[{tile.tally}]")))
