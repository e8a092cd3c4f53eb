import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import cdist
from scipy.stats import entropy as scipy_entropy

from evalsuite.errors import RequestError
from evalsuite.plugins import Pool, PoolOutputs
from protocols.sampling import Sampling, entropy, herding, k_centre

LOOKING = ["high_entropy", "low_entropy", "k_centre", "herding"]


def pool_of(count=60, seed=0):
    drawn = np.random.default_rng(seed)
    outputs = PoolOutputs(
        (drawn.standard_normal((count, 4)) * drawn.uniform(0, 5, (count, 1))).astype(np.float32),
        drawn.standard_normal((count, 6)).astype(np.float32),
    )
    return Pool(np.zeros((count, 2, 2, 3), np.uint8), np.arange(count) % 4, outputs=lambda: outputs)


@pytest.mark.parametrize("method", ["random", "class_balanced", *LOOKING])
@given(size=st.integers(1, 40), candidates=st.floats(0.05, 1), seed=st.integers(0, 99))
def test_so_many_different_images_of_those_offered(method, size, candidates, seed):
    offered = np.arange(5, 60)
    step = Sampling(size, method, candidates)
    chosen = step.select(pool_of(), offered, np.random.default_rng(seed))
    assert len(np.unique(chosen)) == len(chosen) == size
    assert np.isin(chosen, offered).all()
    assert np.array_equal(chosen, step.select(pool_of(), offered, np.random.default_rng(seed)))
    if method == "class_balanced":
        assert np.ptp(np.bincount(chosen % 4, minlength=4)) <= 1


@given(st.integers(1, 60))
def test_entropy_orders_the_pool(size):
    pool = pool_of()
    p = np.exp(pool.outputs().logits.astype(float))
    order = np.argsort(scipy_entropy(p / p.sum(1, keepdims=True), axis=1))
    np.testing.assert_allclose(np.sort(entropy(pool.outputs().logits)), np.sort(scipy_entropy(p.T)), rtol=1e-6)
    low = Sampling(size, "low_entropy", 1.0).select(pool, np.arange(60), np.random.default_rng(0))
    high = Sampling(size, "high_entropy", 1.0).select(pool, np.arange(60), np.random.default_rng(0))
    assert set(low) == set(order[:size])
    assert set(high) == set(order[60 - size :])


def test_sure_and_unsure_logits():
    np.testing.assert_allclose(entropy(np.array([[0, 0], [1000, -1000]], np.float32)), [np.log(2), 0], atol=1e-12)


@given(st.integers(1, 12), st.integers(0, 500))
def test_k_centre_is_the_greedy_choice_by_plain_distances(size, seed):
    points = np.random.default_rng(seed).standard_normal((20, 3)).astype(np.float32)
    chosen = [0]
    distances = cdist(points, points)
    while len(chosen) < size:
        chosen.append(int(distances[:, chosen].min(axis=1).argmax()))
    assert k_centre(points, size).tolist() == chosen


@given(st.integers(1, 3), st.integers(0, 200))
def test_k_centre_covers_within_twice_the_optimum(size, seed):
    points = np.random.default_rng(seed).standard_normal((9, 2))
    distances = cdist(points, points)

    def radius(centres):
        return distances[:, list(centres)].min(axis=1).max()

    best = min(radius(centres) for centres in itertools.combinations(range(9), size))
    assert radius(k_centre(points, size)) <= 2 * best + 1e-9


@given(st.integers(1, 15), st.integers(0, 500))
def test_herding_is_the_choice_that_brings_the_mean_nearest(size, seed):
    points = np.random.default_rng(seed).standard_normal((15, 4)) + 1
    unit = points / np.linalg.norm(points, axis=1, keepdims=True)
    chosen = []
    for _ in range(size):
        rest = [k for k in range(15) if k not in chosen]
        chosen.append(min(rest, key=lambda k: np.linalg.norm(unit[[*chosen, k]].mean(0) - unit.mean(0))))
    assert herding(points, size).tolist() == chosen


@pytest.mark.parametrize("choose", [k_centre, herding])
def test_equal_rows_are_not_chosen_twice(choose):
    for rows in (np.zeros((6, 3)), np.ones((6, 3))):
        assert sorted(choose(rows, 6)) == list(range(6))


def test_herding_follows_the_mean_more_closely_than_chance():
    points = pool_of(200).outputs().features
    unit = points / np.linalg.norm(points, axis=1, keepdims=True)

    def miss(rows):
        return np.linalg.norm(unit[rows].mean(0) - unit.mean(0))

    drawn = np.random.default_rng(0)
    assert miss(herding(points, 20)) < 0.2 * np.mean([miss(drawn.choice(200, 20, replace=False)) for _ in range(50)])


@pytest.mark.parametrize("method", LOOKING)
def test_draws_differ(method):
    sets = [Sampling(10, method).select(pool_of(), np.arange(60), np.random.default_rng(seed)) for seed in range(2)]
    assert set(sets[0]) != set(sets[1])


@pytest.mark.parametrize("method", ["random", *LOOKING])
@pytest.mark.parametrize("size", [0, 61])
def test_more_than_there_are_is_refused_without_looking(method, size):
    pool = Pool(pool_of().images, pool_of().labels)
    with pytest.raises(RequestError, match="expected 1 to 60"):
        Sampling(size, method).select(pool, np.arange(60), np.random.default_rng(0))


def test_a_pool_without_network_and_impossible_candidates_are_refused():
    with pytest.raises(RequestError, match="no network"):
        Sampling(5, "herding").select(Pool(pool_of().images, pool_of().labels), np.arange(60), np.random.default_rng(0))
    with pytest.raises(RequestError, match="expected more than 0"):
        Sampling(candidates=0.0)


def test_names_for_people():
    assert str(Sampling(64, "k_centre")) == "64 images, k_centre"
