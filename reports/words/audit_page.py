"""The verdict of an audit in words: tiles, what breaks, what could not be told apart; for the page and the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from evalsuite.analysis.verdict import Claim, Condition, GroupDrop, GroupKind, Need, Question, Standing, Verdict
from evalsuite.isolation import printable
from reports.frames.methods import readable
from reports.words.numbers import NOTHING, count, listed, number, p_value

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
_KINDS: dict[GroupKind, str] = {
    "class": "Class",
    "domain": "Domain",
    "group": "Group",
    "calibration": "Calibration set",
}
_VARYING = ("calibration", "adapter", "stream")
_SEVERITY: tuple[Standing, ...] = ("worse", "better", "not told apart", "not tested")
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
    """What the claim is of, where the question has several, and how many of them stand like it."""


@dataclass(frozen=True)
class Tile:
    """One question and how the target stands against every rival."""

    question: Question
    title: str
    asked: str
    tally: str
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class Breakage:
    """What breaks under the target: a name, and where it loses how much, the largest loss first."""

    kind: str
    name: str
    loss: str
    p: str
    also: str


def clean(verdict: Verdict) -> Verdict:
    """Return the verdict with every text of it as one line of printable characters: names come from anyone's files."""
    return Verdict.model_validate(_printable(verdict.model_dump()))


def _printable(value: Any) -> Any:
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, dict):
        return {_printable(key): _printable(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_printable(each) for each in value]
    return value


def short(name: str, most: int = 48) -> str:
    """Return a name with its middle left out where it is too long for a tile or a line."""
    half = (most - 1) // 2
    return name if len(name) <= most else f"{name[:half]}…{name[-half:]}"


def signed(fraction: float | None) -> str:
    """Write a difference in percentage points with its sign, without the unit."""
    text = number(fraction if fraction is None else fraction * 100)
    return f"+{text}" if fraction is not None and fraction > 0 and float(text) else text


def difference(claim: Claim) -> str:
    """Write a claim's difference with its interval, in points; of a cost its ratio."""
    if claim.estimate is None:
        return ""
    if claim.question == "cost":
        values = [f"{value:.3g}" for value in (claim.target_value, claim.rival_value) if value is not None]
        return f"{_TIMES}{_SPACE}{claim.estimate:.2g}" + (
            f" ({values[0]} against {values[1]})" if len(values) == 2 else ""
        )
    size = f"{signed(claim.estimate)}{_SPACE}points"
    if claim.low is None or claim.high is None:
        return size
    return f"{size} ({signed(claim.low)} to {signed(claim.high)})"


def tested(claim: Claim) -> str:
    """Say the corrected p of a claim; empty where there is none."""
    return "" if claim.p_holm is None else p_value(claim.p_holm)


def tiles(verdict: Verdict) -> list[Tile]:
    """Return a tile per question, in the order of the questions; one that was not asked says so."""
    several = len(verdict.tasks) > 1
    return [_tile(question, verdict, several) for question in get_args(Question)]


def _tile(question: Question, verdict: Verdict, several: bool) -> Tile:
    claims = [claim for claim in verdict.claims if claim.question == question]
    varying = {field for field in _VARYING if len({getattr(claim.condition, field) for claim in claims}) > 1}
    pairs: dict[tuple[str, str, str], list[Claim]] = {}
    for claim in claims:
        pairs.setdefault((claim.condition.task, claim.rival, claim.condition.bits), []).append(claim)
    lines = tuple(_line(own, varying, several) for own in pairs.values())
    standings = [line.standing for line in lines]
    tally = ", ".join(f"{each} {standings.count(each)}" for each in _SEVERITY if each in standings)
    return Tile(question, TITLES[question], ASKED[question], tally or "not asked", lines)


def leading(claims: Sequence[Claim]) -> Claim:
    """Return the claim that matters most: worse before better before not told apart, then the largest difference."""
    return min(claims, key=lambda claim: (_SEVERITY.index(claim.standing), -abs(claim.estimate or 0.0)))


def _line(claims: Sequence[Claim], varying: set[str], several: bool) -> Line:
    first = leading(claims)
    alike = sum(claim.standing == first.standing for claim in claims)
    what = [readable(getattr(first.condition, field)) for field in _VARYING if field in varying]
    if first.target_group:
        own, rival = readable(first.target_group), readable(first.rival_group)
        what.append(f"both: {short(own)}" if own == rival else f"{short(own)}; rival: {short(rival)}")
    said = [" · ".join(filter(None, what)), first.note]
    if len(claims) > 1 and first.standing != "not tested":
        said.append(f"so {alike} of {len(claims)}")
    return Line(first.standing, against(first, several), difference(first), "; ".join(filter(None, said)))


def against(claim: Claim, several: bool) -> str:
    """Name the rival with its bits and, where the audit has several tasks, the task."""
    label = " ".join(filter(None, (short(claim.rival), claim.condition.bits)))
    return f"{label}, {short(claim.condition.task)}" if several and claim.condition.task else label


def breakages(verdict: Verdict) -> list[Breakage]:
    """Return what loses more than chance explains, by name: of every kind the largest first, then the rest."""
    several = len(verdict.tasks) > 1
    named: dict[tuple[GroupKind, str], list[GroupDrop]] = {}
    for drop in sorted((drop for drop in verdict.drops if drop.shown), key=lambda drop: -drop.drop):
        named.setdefault((drop.kind, drop.name), []).append(drop)
    kinds = [kind for kind, _ in named]
    first = {key for place, key in enumerate(named) if key[0] not in kinds[:place]}
    order = list(get_args(GroupKind))
    ordered = [*sorted(first, key=lambda key: order.index(key[0])), *(key for key in named if key not in first)]
    return [_breakage(named[key], several) for key in ordered]


def _breakage(drops: Sequence[GroupDrop], several: bool) -> Breakage:
    worst, *others = drops
    loss = f"loses {number(worst.drop * 100)}{_SPACE}points"
    if worst.low is not None and worst.high is not None:
        loss += f" ({number(worst.low * 100)} to {number(worst.high * 100)})"
    loss += f" at {where(worst.condition, several)}"
    if worst.by_chance is not None:
        loss += f"; chance alone would give {number(worst.by_chance * 100)}"
    also = listed([f"{number(each.drop * 100)} at {where(each.condition, several)}" for each in others[:3]])
    return Breakage(
        _KINDS[worst.kind],
        short(readable(worst.name)),
        loss,
        p_value(worst.p_holm) if worst.p_holm is not None else "",
        f"also {also}" if also else "",
    )


def where(condition: Condition, several: bool) -> str:
    """Name the bits and, where the audit has several tasks, the task."""
    parts = [condition.bits or "all bits", short(condition.task) if several else ""]
    return " on ".join(filter(None, parts))


def unbroken(verdict: Verdict) -> str:
    """Say what is known where nothing is shown to break."""
    if not verdict.drops:
        return "No loss by class, domain or calibration set was tested."
    kinds = listed(
        [_KINDS[kind].lower() for kind in get_args(GroupKind) if kind in {d.kind for d in verdict.drops}], "or"
    )
    worst = max(verdict.drops, key=lambda drop: drop.drop)
    several = len(verdict.tasks) > 1
    return (
        f"No {kinds} is shown to lose more than chance explains. The largest loss is that of "
        f"{_KINDS[worst.kind].lower()} {short(readable(worst.name))}: {number(worst.drop * 100)}{_SPACE}points at "
        f"{where(worst.condition, several)}."
    )


def needed(need: Need) -> str:
    """Say how many images or draws would tell a difference."""
    ways = []
    if need.images is not None:
        ways.append(f"{need.images:,} test images a domain")
    elif need.most_images is not None:
        ways.append(f"more than {need.most_images:,} test images a domain")
    if need.draws is not None:
        ways.append(f"{need.draws:,} calibration draws")
    elif need.most_draws is not None:
        ways.append(f"more than {need.most_draws:,} calibration draws")
    return listed(ways, "or") or need.note or NOTHING


def untold(verdict: Verdict) -> list[Claim]:
    """Return the claims that are not told apart, in the order of the questions."""
    order = list(get_args(Question))
    claims = [claim for claim in verdict.claims if claim.standing == "not told apart"]
    return sorted(claims, key=lambda claim: order.index(claim.question))


def ranked(verdict: Verdict) -> list[str]:
    """Say where the target stands among its rivals in every condition, with the ranks that the data allow."""
    several = len(verdict.tasks) > 1
    lines = []
    for rank in verdict.ranks:
        if rank.is_target:
            methods = [each for each in verdict.ranks if each.condition == rank.condition]
            place = 1 + sum(each.mean_rank < rank.mean_rank for each in methods)
            allowed = f"{rank.best}" if rank.best == rank.worst else f"{rank.best} to {rank.worst}"
            lines.append(
                f"{where(rank.condition, several)}: place {place} of {len(methods)} by mean rank "
                f"{number(rank.mean_rank, 2)}; the data allow {allowed}."
            )
    return lines


def failed(verdict: Verdict) -> list[str]:
    """Say which checks failed and what mends them, those first that make numbers worthless."""
    checks = sorted(
        (each for each in verdict.conformance if each.outcome == "fail"), key=lambda e: not e.spoils_numbers
    )
    return [f"{each.name}: {_stopped(each.message)}{f' Mend: {each.mend}.' if each.mend else ''}" for each in checks]


def _stopped(text: str) -> str:
    return f"{text.rstrip('.')}." if text else "failed."


def headline(verdict: Verdict) -> str:
    """Say whether there is a verdict, and how claims are made."""
    if not verdict.reached:
        return "No verdict"
    return "Verdict reached"


def rule(verdict: Verdict) -> str:
    """Say when a difference is claimed."""
    return (
        f"A difference is claimed where p < {verdict.level:g} after Holm's correction over the question's claims and "
        f"the interval excludes zero. Differences are the target's error minus the rival's, in percentage points: "
        "below zero the target errs less."
    )


def gate_lines(verdict: Verdict) -> list[str]:
    """Say how each condition of ``--fail-if`` came out."""
    return [
        f"--fail-if {gate.expression}: {'FAILED' if gate.failed else 'passed'} "
        f"({'no such value' if gate.value is None else f'{gate.value:.3g}'})"
        for gate in verdict.gates
    ]


def lost_line(verdict: Verdict) -> str:
    """Say how many trials of the target ended without a result; empty if all are done."""
    trials = verdict.trials
    counts = [(trials.failed, "failed"), (trials.refused, "refused")]
    said = listed([f"{number_:,} {name}" for number_, name in counts if number_])
    return f"Of {count(trials.done + trials.failed + trials.refused, 'trial')} of the target {said}" if said else ""


_MOST_LINES = 25


def verdict_lines(verdict: Verdict) -> list[str]:
    """Return the verdict for a terminal: at most 25 lines, the most important first."""
    verdict = clean(verdict)
    if not verdict.reached:
        head = [f"{short(verdict.target_label)}: no verdict.", *verdict.reasons[:3], *some(failed(verdict), 6)]
    else:
        broken = [" ".join(filter(None, (f"{e.kind} {e.name}", e.loss, f"({e.p})"))) for e in breakages(verdict)]
        head = [
            f"{short(verdict.target_label)}: verdict reached (profile {verdict.profile}).",
            *filter(None, [verdict.summary]),
            *(_tile_line(tile) for tile in tiles(verdict) if tile.lines),
            *(some(broken, 3) or [unbroken(verdict)]),
            *some(_need_lines(verdict), 2),
            *some(failed(verdict), 2),
        ]
    lost = lost_line(verdict)
    tail = [*([f"{lost}: {'; '.join(verdict.trials.reasons[:2])}"] if lost else []), *some(gate_lines(verdict), 3)]
    return [*head[: _MOST_LINES - len(tail)], *tail]


def some(lines: Sequence[str], most: int) -> list[str]:
    """Return the first lines, and how many more there are in the place of the last."""
    return list(lines) if len(lines) <= most else [*lines[: most - 1], f"... and {len(lines) - most + 1} more"]


def _tile_line(tile: Tile) -> str:
    line = min(tile.lines, key=lambda each: _SEVERITY.index(each.standing))
    said = f"{GLYPHS[line.standing]} {STANDS[line.standing]} {line.against}"
    return " ".join(filter(None, (f"{tile.title}:", said, line.difference, f"[{tile.tally}]")))


def _need_lines(verdict: Verdict) -> list[str]:
    several = len(verdict.tasks) > 1
    return [
        f"To tell {number(claim.need.size * 100)} points from {against(claim, several)} ({claim.question}): "
        f"{needed(claim.need)}"
        for claim in untold(verdict)
        if claim.need
    ]


def joined(items: Iterable[str]) -> str:
    """Join what is not empty by middle dots."""
    return " · ".join(filter(None, items))
