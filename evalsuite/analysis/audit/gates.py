"""Conditions on a verdict under which a program that asked for it fails: ``worst_class_drop > 5``."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Sequence

from evalsuite.analysis.verdict import Gate, GroupKind, Question, Standing, Verdict
from evalsuite.errors import RequestError, unknown_name

Value = Callable[[Verdict], float | None]

_EXPRESSION = re.compile(r"\s*([a-z_]+)\s*(>=|<=|>|<)\s*([-+]?[0-9]*\.?[0-9]+)\s*")
_OPERATORS = {">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le}


def _largest(values: Iterable[float | None]) -> float | None:
    """Return the largest of some fractions in percentage points, None of none."""
    known = [value for value in values if value is not None]
    return 100 * max(known) if known else None


def _drop(kind: GroupKind) -> Value:
    return lambda verdict: _largest(drop.drop for drop in verdict.drops if drop.kind == kind)


def _target_value(question: Question) -> Value:
    return lambda verdict: _largest(claim.target_value for claim in verdict.claims if claim.question == question)


def _count(standing: Standing) -> Value:
    return lambda verdict: float(sum(claim.standing == standing for claim in verdict.claims))


VALUES: dict[str, Value] = {
    "error": _target_value("mean"),
    "worst_class_error": _target_value("worst class"),
    "worst_domain_error": _target_value("noise"),
    "worst_class_drop": _drop("class"),
    "worst_domain_drop": _drop("domain"),
    "calibration_change": _drop("calibration"),
    "better": _count("better"),
    "worse": _count("worse"),
    "failed_checks": lambda verdict: float(sum(check.outcome == "fail" for check in verdict.conformance)),
    "failed_trials": lambda verdict: float(verdict.trials.failed),
}
"""What a condition may be about: errors and drops are the largest of all tasks and bit widths, in percentage points;
``better`` and ``worse`` count claims."""


def check_gates(expressions: Sequence[str]) -> None:
    """Raise RequestError for a condition that cannot be looked at."""
    for expression in expressions:
        _parts(expression)


def gates_of(verdict: Verdict, expressions: Sequence[str]) -> list[Gate]:
    """Look at conditions; one whose value is not known has failed."""
    found = []
    for expression in expressions:
        name, compare, limit = _parts(expression)
        value = VALUES[name](verdict)
        failed = value is None or bool(_OPERATORS[compare](value, limit))
        found.append(Gate(expression=expression, value=value, failed=failed))
    return found


def _parts(expression: str) -> tuple[str, str, float]:
    match = _EXPRESSION.fullmatch(expression)
    if match is None:
        raise RequestError(f"--fail-if {expression!r}: expected NAME > NUMBER, such as 'worst_class_drop > 5'")
    name, compare, limit = match.groups()
    if name not in VALUES:
        raise unknown_name("value of --fail-if", name, VALUES)
    return name, compare, float(limit)
