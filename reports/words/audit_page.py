"""The verdict of an audit in words: what breaks, what could not be told apart; for the page and the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from evalsuite.analysis.verdict import Claim, Condition, GroupDrop, GroupKind, Need, Question, Verdict
from evalsuite.isolation import printable
from reports.frames.methods import readable
from reports.words.audit_tiles import TITLES, against, condition_of, short, tile_line, tiles, varying
from reports.words.numbers import CONFIDENCE_PERCENT, NOTHING, count, listed, number, p_value, points

_KINDS: dict[GroupKind, str] = {
    "class": "Class",
    "domain": "Domain",
    "group": "Group",
    "calibration": "Calibration set",
}
_LONGEST_COMMAND = 20_000  # characters: it is there to be copied whole
_SPACE = "\N{NO-BREAK SPACE}"


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
    command = printable(verdict.command, _LONGEST_COMMAND)
    return Verdict.model_validate(_printable(verdict.model_dump()) | {"command": command})


def _printable(value: Any) -> Any:
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, dict):
        return {_printable(key): _printable(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_printable(each) for each in value]
    return value


def few(names: Sequence[str], what: str, most: int = 4) -> str:
    """List names, or say how many there are where they would fill the screen."""
    return ", ".join(map(short, names)) if len(names) <= most else count(len(names), what)


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
        short(name_of(worst)),
        loss,
        p_value(worst.p_holm) if worst.p_holm is not None else "",
        f"also {also}" if also else "",
    )


def name_of(drop: GroupDrop) -> str:
    """Return a group's name; a corruption's as people write it, a class's as it is."""
    return readable(drop.name) if drop.kind == "domain" else drop.name


def where(condition: Condition, several: bool) -> str:
    """Name the bits and, where the audit has several tasks, the task."""
    parts = [condition.bits or "all bits", short(condition.task) if several else ""]
    return " on ".join(filter(None, parts))


def breakage_lines(verdict: Verdict) -> list[str]:
    """Say what breaks, a line each."""
    return [f"{each.kind} {each.name} {each.loss}" + (f" ({each.p})" if each.p else "") for each in breakages(verdict)]


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
        f"{_KINDS[worst.kind].lower()} {short(name_of(worst))}: {number(worst.drop * 100)}{_SPACE}points at "
        f"{where(worst.condition, several)}."
    )


def need_lines(verdict: Verdict) -> list[str]:
    """Say what would tell the target from each rival, one line per claim that was not told apart."""
    several = len(verdict.tasks) > 1
    lines = []
    for claim in untold(verdict):
        if claim.need:
            fields = varying([each for each in verdict.claims if each.question == claim.question])
            named = (TITLES[claim.question], against(claim, several), condition_of(claim, fields))
            lines.append(f"{', '.join(filter(None, named))}: {needed(claim.need)}.")
    return lines


def needed(need: Need) -> str:
    """Say how many images or draws would tell a difference, or that no number that was looked at would."""
    size = points(need.size)
    units = {
        "test images a domain": (need.images, need.most_images),
        "calibration draws": (need.draws, need.most_draws),
    }
    enough = [f"{number:,} {unit}" for unit, (number, _) in units.items() if number is not None]
    if enough:
        return f"to tell {size} would take {listed(enough, 'or')}"
    short = [f"{most:,} {unit}" for unit, (_, most) in units.items() if most is not None]
    if len(short) == 1:
        return f"to tell {size}, {short[0]} would not do"
    if short:
        return f"to tell {size}, neither {' nor '.join(short)} would do"
    return f"what would tell {size} is not known: {need.note}" if need.note else NOTHING


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
    mends = [f" Mend: {_stopped(each.mend)}" if each.mend else "" for each in checks]
    return [f"{each.name}: {_stopped(each.message)}{mend}" for each, mend in zip(checks, mends, strict=True)]


def checked(verdict: Verdict) -> str:
    """Say how many checks passed, failed and do not apply."""
    outcomes = [each.outcome for each in verdict.conformance]
    words = {"pass": "passed", "fail": "failed", "not applicable": "not applicable"}
    counts = [f"{outcomes.count(each)} {word}" for each, word in words.items() if each in outcomes]
    return f"Of {count(len(outcomes), 'check')} {listed(counts)}."


def copied(verdict: Verdict) -> str:
    """Say where the rivals' records come from; empty where this audit made them."""
    if verdict.baselines is None:
        return ""
    source = verdict.baselines
    return f"{count(source.trials, 'trial')} of the rivals copied, not run again: {_stopped(source.origin)}"


def _stopped(text: str) -> str:
    return f"{text.rstrip('.')}." if text else "failed."


def headline(verdict: Verdict) -> str:
    """Say whether there is a verdict."""
    return "✓ Verdict reached" if verdict.reached else "✗ No verdict"


def rule(verdict: Verdict) -> str:
    """Say when a difference is claimed."""
    return (
        "Differences are the target's error minus the rival's, in percentage points, with "
        f"{CONFIDENCE_PERCENT}{_SPACE}% intervals: below zero the target errs less. One is claimed where p < "
        f"{verdict.level:g} after Holm's correction over the question's claims and the interval excludes zero."
    )


def gate_lines(verdict: Verdict) -> list[str]:
    """Say how each condition of ``--fail-if`` came out."""
    return [
        f"{'✗ failed' if gate.failed else '✓ passed'}: --fail-if {gate.expression} "
        f"({'no such value' if gate.value is None else f'it is {gate.value:.3g}'})"
        for gate in verdict.gates
    ]


def asked_of(verdict: Verdict) -> str:
    """Say how many claims were not told apart."""
    asked = [claim for claim in verdict.claims if claim.standing != "not tested"]
    return f"{len(untold(verdict)):,} of {count(len(asked), 'tested claim')}."


def lost_line(verdict: Verdict) -> str:
    """Say how many trials of the target ended without a result; empty if all are done."""
    trials = verdict.trials
    if not trials.done + trials.failed + trials.refused:
        return "No trial of the target was run"
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
        head = [
            f"{short(verdict.target_label)}: verdict reached (profile {verdict.profile}).",
            *filter(None, [verdict.summary]),
            *(tile_line(tile) for tile in tiles(verdict) if tile.lines),
            *(some(breakage_lines(verdict), 3) or [unbroken(verdict)]),
            *some(need_lines(verdict), 2),
            *some(failed(verdict), 2),
        ]
    lost = lost_line(verdict)
    because = f": {'; '.join(verdict.trials.reasons[:2])}" if verdict.trials.reasons else ""
    tail = [*([f"{lost}{because}."] if lost else []), *some(gate_lines(verdict), 3)]
    return [*head[: _MOST_LINES - len(tail)], *tail]


def some(lines: Sequence[str], most: int) -> list[str]:
    """Return the first lines, and in the place of the last how many more the page or its tables have."""
    if len(lines) <= most:
        return list(lines)
    return [*lines[: most - 1], f"... and {len(lines) - most + 1} more, see the page's tables"]


def joined(items: Iterable[str]) -> str:
    """Join what is not empty by middle dots."""
    return " · ".join(filter(None, items))
