"""The verdict of an audit, from its run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from evalsuite.analysis._settings import Settings
from evalsuite.analysis.audit.claims import claims_of
from evalsuite.analysis.audit.contests import contests_of, plain_settings, trials_of
from evalsuite.analysis.audit.drops import drops_of
from evalsuite.analysis.audit.ranks import costs_of, ranks_of
from evalsuite.analysis.audit.summary import summary_of
from evalsuite.analysis.outcomes import read_outcomes
from evalsuite.analysis.verdict import Baselines, Claim, Condition, Conformance, Cost, Trials, Verdict
from evalsuite.registry import Setting
from evalsuite.statistics import LEVEL
from evalsuite.store import Run


@dataclass(frozen=True)
class Request:
    """What a verdict repeats of the request, and what was seen before the run.

    Attributes
    ----------
    target : the method, with its options.
    title : how the command names it.
    label : what it is called.
    digest : of what the target's file holds; empty for an installed plugin.
    checks : of its contract.
    left_out : what is not measured of this target, and why.
    """

    target: Setting
    title: str
    profile: str
    command: str = ""
    label: str = ""
    digest: str = ""
    checks: tuple[Conformance, ...] = ()
    left_out: tuple[str, ...] = ()
    versions: dict[str, str] = field(default_factory=dict)
    hardware: dict[str, Any] = field(default_factory=dict)


def unmeasured(request: Request) -> Verdict:
    """Return the verdict on a target of which nothing was measured, as a check that would spoil its numbers failed."""
    reasons = [f"{check.name}: {check.message}" for check in _spoiling(request)]
    return Verdict(
        **_common(request),
        reached=False,
        reasons=reasons,
        summary=summary_of(request.title, reasons, [], [], []),
        rivals=[],
        bits=[],
        tasks={},
        seeds=[],
        trials=Trials(done=0, failed=0, refused=0),
        versions=request.versions,
        hardware=request.hardware,
    )


def verdict_of(run: Run, request: Request) -> Verdict:
    """Return the verdict of a run that an audit has made.

    Raises
    ------
    RequestError
        If the run holds no trial of the target, or its files are broken.
    """
    own = trials_of(run, request.target)
    trials = _trials(own)
    labels = frozenset(own["quantizer_label"])
    reasons = [f"{check.name}: {check.message}" for check in _spoiling(request)]
    reasons += [] if trials.done else [f"no trial of it gave a result: {reason}" for reason in trials.reasons[:3]]
    outcomes, settings, plain = read_outcomes(run), Settings.of(run), plain_settings(run)
    reached = not reasons
    asked = list(contests_of(outcomes, labels, plain)) if reached else []
    claims = claims_of(outcomes, asked, settings)
    drops = drops_of(outcomes, labels, plain, settings) if reached else []
    ranks = ranks_of(outcomes, labels, plain, settings) if reached else []
    costs = costs_of(run, outcomes, labels, plain) if reached else []
    study = run.study
    lent = study.get("baselines")
    claims += _costs(costs, lent is None)
    return Verdict(
        **_common(request),
        reached=reached,
        reasons=reasons,
        summary=summary_of(request.title, reasons, claims, drops, ranks),
        rivals=list(dict.fromkeys(claim.rival for claim in claims)),
        bits=list(dict.fromkeys(own["bits"])),
        tasks={task: _digests(facts) for task, facts in study["tasks"].items()},
        seeds=[int(seed) for seed in study["seeds"]],
        claims=claims,
        drops=drops,
        ranks=ranks,
        costs=costs,
        trials=trials,
        versions=study["versions"],
        hardware=study["hardware"],
        baselines=None if lent is None else Baselines.model_validate(lent),
    )


def _common(request: Request) -> dict[str, Any]:
    return {
        "target": request.title,
        "target_label": request.label or request.target.name.rpartition(":")[2],
        "options": request.target.values(),
        "source_digest": request.digest,
        "profile": request.profile,
        "command": request.command,
        "conformance": list(request.checks),
        "level": LEVEL,
        "left_out": list(request.left_out),
    }


def _spoiling(request: Request) -> list[Conformance]:
    return [check for check in request.checks if check.outcome == "fail" and check.spoils_numbers]


def _digests(facts: dict[str, Any]) -> dict[str, str]:
    return {name: str(value) for name, value in facts.items() if name.endswith("_digest") and value}


def _trials(own: pd.DataFrame) -> Trials:
    counts = own["status"].value_counts()
    lost = own[own["status"] != "done"]
    number = {status: int(counts.get(status, 0)) for status in ("done", "failed", "refused")}
    return Trials(**number, reasons=list(dict.fromkeys(lost["reason"].astype(str))))


def _costs(costs: Sequence[Cost], alike: bool) -> list[Claim]:
    """Return the ratio of the target's time to quantize to each rival's, which nothing tests.

    ``alike``: whether all were measured by this audit, on one machine.
    """
    found = []
    for own in (cost for cost in costs if cost.is_target):
        for other in costs:
            if other.is_target or _place(other.condition) != _place(own.condition):
                continue
            times = own.quantize_seconds, other.quantize_seconds
            known = alike and times[0] is not None and times[1]
            found.append(
                Claim(
                    question="cost",
                    condition=own.condition,
                    rival=other.method,
                    standing="not tested",
                    estimate=times[0] / times[1] if known and times[0] and times[1] else None,
                    target_value=times[0],
                    rival_value=times[1],
                    unit="seconds to quantize",
                    note="" if alike else "the rival's time is of another machine or run",
                )
            )
            found.append(
                Claim(
                    question="engine",
                    condition=own.condition,
                    rival=other.method,
                    standing="not tested",
                    note=f"{own.engine}; {other.method}: {other.engine}",
                )
            )
    return found


def _place(condition: Condition) -> tuple[str, str]:
    return condition.task, condition.bits
