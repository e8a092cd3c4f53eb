"""Ranks rest on what both the domains and the images tell apart."""

from __future__ import annotations

import json

import numpy as np
from _dummies.outcomes import combination, outcomes, square

from evalsuite.analysis.rankings import rankings_of

IMAGES, DOMAINS = 200, 15
ALIKE = square(IMAGES, DOMAINS)


def ranked(**wrong_images):
    """Rank quantizers that get these images wrong in every domain."""
    members = [combination(name, {0: ALIKE}, {0: np.isin(ALIKE.image, bad)}) for name, bad in wrong_images.items()]
    found = rankings_of(outcomes(members))
    return found[found["factor"] == "quantizer"].set_index("method")


def test_five_images_tell_no_methods_apart_however_many_domains_show_them():
    found = ranked(a=[], b=[], c=range(5))
    assert found["note"].str.contains("fewer than 6 images").all()
    assert found[["p", "critical_difference", "among_best", "best_rank", "worst_rank", "before"]].isna().all(axis=None)
    assert not found["shown"].any()
    assert ranked(a=[], b=[], c=range(60))["shown"].all()


def test_a_bad_method_says_nothing_of_the_other_two():
    """Domains tell a and b apart, whose one image is wrong in each of them; the images do not."""
    found = ranked(a=[], b=[7], c=range(100))
    assert found["shown"].all()
    assert found["among_best"].tolist() == [True, True, False]
    assert found[["best_rank", "worst_rank"]].to_numpy().tolist() == [[1, 2], [1, 2], [3, 3]]
    assert [json.loads(names) for names in found["before"]] == [["c"], ["c"], []]


def test_methods_that_images_tell_apart_have_ranks_of_their_own():
    found = ranked(a=range(20), b=range(60), c=range(120))
    assert found[["best_rank", "worst_rank"]].to_numpy().tolist() == [[1, 1], [2, 2], [3, 3]]
    assert [json.loads(names) for names in found["before"]] == [["b", "c"], ["c"], []]


def test_methods_of_other_seeds_are_not_ranked_beside():
    """One and the same method: what differs is the draw alone."""
    drawn = {seed: np.random.default_rng(seed).random(len(ALIKE.image)) for seed in range(3)}
    chance = {seed: numbers < rate for (seed, numbers), rate in zip(drawn.items(), (0.1, 0.3, 0.6), strict=True)}
    members = [
        combination(name, dict.fromkeys(seeds, ALIKE), chance)
        for name, seeds in {"a": (0, 1), "b": (1, 2), "c": (0, 1)}.items()
    ]
    found = rankings_of(outcomes(members))
    assert found.loc[found["factor"] == "quantizer", "method"].tolist() == ["a", "c"]
