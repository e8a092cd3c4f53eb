import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalsuite.errors import RequestError
from protocols.label_order import burst_order, dirichlet_order, long_tail

seeds = st.integers(0, 2**32 - 1)


def shuffled(classes, each, seed=0):
    return np.random.default_rng(seed).permutation(np.arange(classes * each) % classes)


def same_neighbours(labels):
    return np.mean(labels[1:] == labels[:-1])


@given(seeds, st.integers(1, 12), st.integers(1, 60), st.floats(1, 20))
def test_long_tail_takes_exactly_as_many_with_an_exponential_profile(seed, classes, total, ratio):
    labels = shuffled(classes, 60, seed)
    try:
        chosen = long_tail(labels, total, ratio, np.random.default_rng(seed))
    except RequestError as error:
        assert "takes 0 of class" in str(error)  # noqa: PT017
        return
    assert len(chosen) == total
    assert (np.diff(chosen) > 0).all()
    counts = np.sort(np.bincount(labels[chosen], minlength=classes))[::-1]
    exact = ratio ** (-np.arange(classes) / max(classes - 1, 1))
    assert np.abs(counts - total * exact / exact.sum()).max() <= 1 + 1e-9


def test_long_tail_takes_the_first_images_of_a_class_and_draws_its_head():
    labels = shuffled(5, 100)
    heads = set()
    for seed in range(40):
        chosen = long_tail(labels, 150, 10, np.random.default_rng(seed))
        for label in range(5):
            own = np.flatnonzero(labels == label)
            assert np.array_equal(chosen[labels[chosen] == label], own[: np.sum(labels[chosen] == label)])
        heads.add(int(np.bincount(labels[chosen]).argmax()))
    assert heads == set(range(5))


def test_a_long_tail_is_exact_or_refused():
    labels = shuffled(4, 30)
    for total, ratio, message in (
        (100, 3, r"takes 40 of class \d, more than 1 to 30"),
        (77, 3, r"takes 31 of class \d, more than 1 to 30"),
        (20, 100, r"takes 0 of class \d, fewer than 1 to 30"),
    ):
        with pytest.raises(RequestError, match=message):
            long_tail(labels, total, ratio, np.random.default_rng(0))
    assert len(long_tail(labels, 75, 3, np.random.default_rng(0))) == 75


@given(seeds, st.integers(1, 8), st.integers(1, 30), st.floats(1e-4, 1e4), st.none() | st.integers(1, 40))
def test_dirichlet_order_is_a_permutation(seed, classes, each, concentration, slots):
    labels = shuffled(classes, each, seed) * 3  # labels need not be consecutive
    order = dirichlet_order(labels, concentration, slots, np.random.default_rng(seed))
    assert np.array_equal(np.sort(order), np.arange(len(labels)))


@given(st.integers(0, 10_000))
def test_concentration_leads_from_sorted_to_shuffled(seed):
    labels = shuffled(10, 100, seed)
    generator = np.random.default_rng(seed)
    orders = [dirichlet_order(labels, c, None, generator) for c in np.repeat([1e-6, 0.1, 1e4], 30)]
    few, usual, many = np.array([same_neighbours(labels[order]) for order in orders]).reshape(3, 30).mean(axis=1)
    # A class lies whole in one of 10 slots; in a slot of k classes a neighbour is of the same one once in k.
    assert few == pytest.approx(1 - 0.9**10, abs=0.11)
    assert many == pytest.approx(0.1, abs=0.02)
    assert many + 0.1 < usual < few
    # With many slots two classes seldom share one (which costs 0.1), and the order is nearly sorted.
    assert same_neighbours(labels[dirichlet_order(labels, 1e-6, 10_000, generator)]) > 0.75


def test_two_classes_meet_as_often_as_their_drawn_shares_say():
    """In one slot of shares p and q, classes of equal size are neighbours with probability 2pq / (p + q)^2."""
    labels = np.random.default_rng(0).permutation(np.repeat([0, 1], 1000))
    p, q = np.random.default_rng(1).dirichlet(np.full(4, 0.5), (2, 4000))
    expected = np.mean(np.sum(p * q / np.maximum(p + q, 1e-12), axis=1))  # weighted by (p + q) / 2, times 2
    orders = (dirichlet_order(labels, 0.5, 4, np.random.default_rng(seed)) for seed in range(400))
    found = [1 - same_neighbours(labels[order]) for order in orders]
    assert np.mean(found) == pytest.approx(expected, abs=4 * np.std(found) / 20)


@given(seeds, st.integers(2, 6), st.integers(12, 40), st.integers(1, 3), st.integers(2, 6))
def test_bursts_are_runs_and_lose_no_image(seed, classes, each, bursts, length):
    labels = shuffled(classes, each, seed)
    order = burst_order(labels, bursts, length, np.random.default_rng(seed))
    assert np.array_equal(np.sort(order), np.arange(len(labels)))
    shown = labels[order]
    bounds = np.flatnonzero(np.diff(shown)) + 1
    runs = [len(run) for run in np.split(shown, bounds)]
    assert sum(run // length for run in runs) >= bursts
    # Images that are in no burst keep their order.
    assert longest_rising(order) >= len(labels) - bursts * length


def longest_rising(values):
    ends = []
    for value in values:
        place = np.searchsorted(ends, value)
        ends[place : place + 1] = [value]
    return len(ends)


def test_bursts_come_at_any_time_and_of_any_class():
    labels = shuffled(3, 40)
    begins, classes = [], set()
    for seed in range(60):
        shown = labels[burst_order(labels, 1, 30, np.random.default_rng(seed))]
        bounds = np.concatenate([[0], np.flatnonzero(np.diff(shown)) + 1, [len(shown)]])
        longest = np.diff(bounds).argmax()
        begins.append(bounds[longest] / len(shown))
        classes.add(int(shown[bounds[longest]]))
    assert classes == {0, 1, 2}
    assert min(begins) < 0.15
    assert max(begins) > 0.6


def test_bursts_that_no_class_can_fill():
    labels = shuffled(3, 8)
    assert len(burst_order(labels, 6, 4, np.random.default_rng(0))) == 24
    with pytest.raises(RequestError, match="bursts = 7 of 4 images of one class: no class"):
        burst_order(labels, 7, 4, np.random.default_rng(0))
