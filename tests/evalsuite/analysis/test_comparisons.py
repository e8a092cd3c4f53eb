"""Which pairs are compared."""

from __future__ import annotations

import numpy as np
from _dummies.outcomes import combination, square

from evalsuite.analysis.comparisons import pairs_of

SHOWN = {0: square(8, 2)}


def calibration_pairs(*ended):
    members = [combination("rtn", SHOWN, {0: np.zeros(16)}, calibration) for calibration in ended]
    pairs = pairs_of(members, {"task": ("full precision", "none")}, {("task", "rtn"): "first"})
    return [(pair.a.calibration, pair.b.calibration) for pair in pairs if pair.factor == "calibration"]


def test_calibration_sets_are_compared_with_the_studys_first_one_or_none():
    assert calibration_pairs("first", "second", "third") == [("second", "first"), ("third", "first")]
    assert calibration_pairs("second", "third") == []
