"""The claims of an audit: every contest tested, corrected as one family a question, and what would tell the others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evalsuite.analysis import claims as rule
from evalsuite.analysis._settings import Settings, Values
from evalsuite.analysis.audit.contests import Contest, method_name
from evalsuite.analysis.comparisons import corrected, gap_tests, worst_groups
from evalsuite.analysis.outcomes import Outcome, Outcomes, Rows, pooled
from evalsuite.analysis.verdict import Claim, Need, Question, Standing
from evalsuite.errors import RequestError
from evalsuite.metrics import group_means
from evalsuite.statistics import LEVEL, draws_needed, images_needed
from evalsuite.statistics._experiments import OutOfReach

SIZE_OF_INTEREST = 0.01
"""The difference of mean errors for which it is said how much data would tell it: one percentage point. *Ours.* Not the
recorded difference, which is small by selection where two methods are not told apart."""
POWER = 0.8
MOST_IMAGES, MOST_DRAWS = 20_000, 100
_REPETITIONS = 200
_WORST: dict[Question, str] = {"worst class": "class", "noise": "domain"}


def claims_of(outcomes: Outcomes, contests: Sequence[Contest], settings: Settings) -> list[Claim]:
    """Return a claim per contest, in their order; ``p_holm`` is corrected over the contests of the same question."""
    found: list[Values] = [{} for _ in contests]
    seen = [contest.outcomes() for contest in contests]
    for index, seeds in enumerate(seen):
        if not seeds:
            found[index]["note"] = "no calibration draw is done for both on the same images"
    questions = list(dict.fromkeys(contest.question for contest in contests))
    for question in questions:
        asked = [index for index, contest in enumerate(contests) if contest.question == question]
        for rows, members in outcomes.batches(
            (contests[index].target.task, [each[0] for each in seen[index]]) for index in asked
        ):
            chosen = [asked[member] for member in members]
            tested = _tested(rows, question, [seen[index] for index in chosen], settings)
            for index, values in zip(chosen, tested, strict=True):
                found[index] |= values
        for index, p in zip(asked, corrected([found[index] for index in asked]), strict=True):
            found[index]["p_holm"] = float(p)
            found[index]["standing"] = _standing(found[index])
            if found[index]["standing"] == "not told apart" and question == "mean":
                found[index]["need"] = need_of(outcomes, contests[index], settings, len(asked))
    return [_claim(contest, values) for contest, values in zip(contests, found, strict=True)]


def _claim(contest: Contest, values: Values) -> Claim:
    numbers = {name: value if _is_number(value) else None for name, value in values.items() if name in _NUMBERS}
    return Claim(
        question=contest.question,
        condition=contest.condition,
        rival=method_name(contest.rival),
        **{**values, **numbers},
    )


_NUMBERS = ("estimate", "low", "high", "p", "p_holm", "target_value", "rival_value")


def _is_number(value: Any) -> bool:
    return value is not None and bool(np.isfinite(value))


def _standing(values: Values) -> Standing:
    if not _is_number(values.get("p_holm", np.nan)):
        return "not told apart" if "estimate" in values else "not tested"
    if not rule.shown(values["p_holm"], values["low"], values["high"]):
        return "not told apart"
    return "better" if values["estimate"] < 0 else "worse"


def _tested(rows: Rows, question: Question, seen: list[list[tuple[Outcome, ...]]], settings: Settings) -> list[Values]:
    """Return the columns of claims from the outcomes of each contest, all on the same rows."""
    if question in _WORST:
        return _worst(rows, _WORST[question], seen, settings)
    if question == "calibration":
        return _changes(rows, seen, settings)
    gaps = np.column_stack([_side(each, 0) - _side(each, 1) for each in seen])
    return [
        _named(tested) | {"target_value": float(_side(each, 0).mean()), "rival_value": float(_side(each, 1).mean())}
        for tested, each in zip(gap_tests(rows, gaps, settings), seen, strict=True)
    ]


def _side(seeds: Sequence[tuple[Outcome, ...]], index: int) -> NDArray[np.int8]:
    return pooled(each[index] for each in seeds)


def _named(tested: Values) -> Values:
    estimate, low, high = (float(tested[name]) for name in ("difference", "low", "high"))
    kept = {name: tested[name] for name in ("test", "unit", "note")}
    return kept | {"estimate": estimate, "low": low, "high": high, "p": float(tested["p"]), "n": int(tested["n"])}


def _changes(rows: Rows, seen: list[list[tuple[Outcome, ...]]], settings: Settings) -> list[Values]:
    """Return what another calibration set changes in the target's error minus what it changes in the rival's."""
    sides = [[_side(each, index) for index in range(4)] for each in seen]
    changes = np.column_stack([(own - own_0) - (other - other_0) for own, other, own_0, other_0 in sides])
    return [
        _named(tested) | {"target_value": float((own - own_0).mean()), "rival_value": float((other - other_0).mean())}
        for tested, (own, other, own_0, other_0) in zip(gap_tests(rows, changes, settings, 2), sides, strict=True)
    ]


def _worst(rows: Rows, group: str, seen: list[list[tuple[Outcome, ...]]], settings: Settings) -> list[Values]:
    """Return the error of the target's worst group minus that of the rival's, each its own group."""
    codes, names = rows.group(group)
    pairs = [[(each[0], each[1]) for each in seeds] for seeds in seen]
    found = []
    for tested, seeds in zip(worst_groups(rows, pairs, settings, group), seen, strict=True):
        images = len(np.unique(rows.image))
        named = _named(tested | {"test": f"exchange of methods, worst {group}", "unit": "image", "n": images})
        for index, side in enumerate(("target", "rival")):
            means, _ = group_means(_side(seeds, index)[:, None], codes, len(names))
            worst = int(np.nanargmax(means[:, 0]))
            named |= {f"{side}_value": float(means[worst, 0]), f"{side}_group": names[worst]}
        found.append(named)
    return found


def need_of(outcomes: Outcomes, contest: Contest, settings: Settings, family: int) -> Need:
    """Return how many images, or else calibration draws, would tell the two means apart; ``family``: tests in it."""
    seeds = contest.outcomes()
    rows = outcomes.rows(contest.target.task, (each[0].layout for each in seeds))
    recorded = (_side(seeds, 0) - _side(seeds, 1), rows.image, rows.domain, rows.replicate)
    asked: Values = {
        "generator": settings.generator("need", rows.task, contest.target.quantizer, contest.rival.quantizer),
        "level": LEVEL / family,  # Holm's first factor
        "power": POWER,
        "size": SIZE_OF_INTEREST,
        "repetitions": _REPETITIONS,
    }
    known: Values = {"size": SIZE_OF_INTEREST, "power": POWER}
    try:
        images = images_needed(*recorded, most=MOST_IMAGES, **asked)
        if images.number is not None or len(seeds) < 2:
            return Need(images=images.number, most_images=images.most, note=images.note, **known)
        draws = draws_needed(*recorded, most=MOST_DRAWS, **asked)
    except OutOfReach:
        return Need(note="the two differ on too few images", **known)
    except RequestError as error:  # images shown in one draw or domain alone: no run like it can be drawn
        return Need(note=str(error), **known)
    note = draws.note or images.note
    return Need(most_images=images.most, draws=draws.number, most_draws=draws.most, note=note, **known)
