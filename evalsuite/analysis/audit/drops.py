"""What breaks: the groups, and the calibration sets, under which the target loses."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from evalsuite.analysis import claims as rule
from evalsuite.analysis._settings import Settings
from evalsuite.analysis.audit.contests import Plain, condition_of, panels_of
from evalsuite.analysis.comparisons import Pair, corrected, tested_pairs
from evalsuite.analysis.harm import harms, holm_factors
from evalsuite.analysis.outcomes import Combination, Outcomes
from evalsuite.analysis.verdict import GroupDrop, GroupKind
from evalsuite.statistics import LEVEL, group_bounds

_KINDS: dict[str, GroupKind] = {"class": "class", "domain": "domain"}
_MOST_GROUPS = 100  # of a grouping other than the class, that a verdict lists


def drops_of(
    outcomes: Outcomes, target: Collection[str], plain: dict[str, Plain], settings: Settings
) -> list[GroupDrop]:
    """Return what the target's groups and calibration sets lose, those that are shown first, the largest before others.

    Groups in the plain settings, ``p_holm`` corrected over a grouping's groups (largest drops of the permutations) and
    over the target's networks; calibration sets without adaptation against the first one, corrected over all of them.
    """
    found = [*_groups(outcomes, target, plain, settings), *_calibrations(outcomes, target, plain, settings)]
    return sorted(found, key=lambda each: (not each.shown, -each.drop))


def _in_plain(outcomes: Outcomes, target: Collection[str], plain: dict[str, Plain]) -> list[Combination]:
    return [each for members in panels_of(outcomes, plain) for each in members if each.quantizer in target]


def _groups(
    outcomes: Outcomes, target: Collection[str], plain: dict[str, Plain], settings: Settings
) -> list[GroupDrop]:
    members = _in_plain(outcomes, target, plain)
    drops: dict[str, list[tuple[float, list[GroupDrop]]]] = {}
    for found in harms(outcomes, members, settings, _MOST_GROUPS):
        result, rows, miss = found.harm, found.rows, LEVEL / 2 / len(found.harm.names)
        codes, _ = rows.group(found.group)
        bounds = group_bounds(found.drops, codes, rows.image, rows.replicate, below=miss, above=miss)
        chance = result.maxima.mean(axis=0)
        for column, member in enumerate(found.members):
            own = [
                GroupDrop(
                    kind=_KINDS.get(found.group, "group"),
                    name=name,
                    condition=condition_of(members[member]),
                    drop=float(result.drop[code, column]),
                    low=float(bounds.low[code, column]),
                    high=float(bounds.high[code, column]),
                    by_chance=float(chance[column]),
                    p_holm=float(result.p[code, column]),
                    shown=False,
                )
                for code, name in enumerate(result.names)
            ]
            drops.setdefault(found.group, []).append((float(result.p[:, column].min()), own))
    return [each for networks in drops.values() for each in _corrected(networks)]


def _corrected(networks: list[tuple[float, list[GroupDrop]]]) -> list[GroupDrop]:
    """Multiply the p of each network's groups by Holm's factor of the network, and claim what is significant."""
    factors = holm_factors([p for p, _ in networks])
    found = []
    for factor, (_, drops) in zip(factors, networks, strict=True):
        for each in drops:
            p = min(1.0, float(factor) * (each.p_holm or 0.0))
            shown = bool(rule.significant(p)) and each.drop > 0
            found.append(each.model_copy(update={"p_holm": p, "shown": shown}))
    return found


def _calibrations(
    outcomes: Outcomes, target: Collection[str], plain: dict[str, Plain], settings: Settings
) -> list[GroupDrop]:
    first = {(each.task, each.quantizer): each for each in _in_plain(outcomes, target, plain)}
    pairs = [
        Pair("calibration", each, first[each.task, each.quantizer])
        for each in outcomes.combinations
        if (each.task, each.quantizer) in first
        and each.calibration != plain[each.task].calibration
        and (each.adapter, each.stream) == (plain[each.task].adapter, plain[each.task].stream)
    ]
    tested = tested_pairs(outcomes, pairs, settings)
    return [
        GroupDrop(
            kind="calibration",
            name=pair.a.calibration,
            condition=condition_of(pair.a),
            drop=float(values["difference"]),
            low=float(values["low"]),
            high=float(values["high"]),
            p_holm=float(p) if np.isfinite(p) else None,
            shown=bool(rule.shown(p, values["low"], values["high"])) and float(values["difference"]) > 0,
        )
        for pair, values, p in zip(pairs, tested, corrected(tested), strict=True)
        if "difference" in values
    ]
