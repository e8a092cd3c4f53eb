"""Intervals of what not every draw shows."""

from __future__ import annotations

import numpy as np
from _dummies.outcomes import combination, layout, outcomes

from evalsuite.analysis._settings import Settings
from evalsuite.analysis.summary import summary_of

IMAGES, DOMAINS = 120, 3


def test_a_domain_may_show_other_images_in_each_draw():
    """Every draw shows every image, once and under a domain of its own: crossed as a whole, not within a domain."""
    domain = {seed: np.random.default_rng(seed).integers(0, DOMAINS, IMAGES) for seed in (0, 1)}
    shown = {seed: layout(np.arange(IMAGES), own, f"layout {seed}") for seed, own in domain.items()}
    missed = {seed: np.random.default_rng(9 + seed).random(IMAGES) < 0.3 for seed in shown}
    full = combination("full", shown, dict.fromkeys(shown, np.zeros(IMAGES)))
    found = outcomes([full, combination("rtn", shown, missed)])
    settings = Settings(0, 100, 100)
    summary = summary_of(found, {"task": ("full", "none")}, settings).set_index("quantizer_label")
    assert summary.loc["rtn", "error_low"] < summary.loc["rtn", "error"] < summary.loc["rtn", "error_high"]
    by_domain = summary.loc["rtn", "worst_drop_domain_value"]
    errors = [np.concatenate([missed[seed][own.domain == k] for seed, own in shown.items()]) for k in range(DOMAINS)]
    assert by_domain == max(own.mean() for own in errors)
