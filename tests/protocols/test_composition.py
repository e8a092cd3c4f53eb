import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalsuite.errors import RequestError
from evalsuite.plugins import Pool
from protocols.calibration import CalibrationSize
from protocols.composition import Balanced, LongTail, balanced_counts, long_tail_counts

NAMES = ("ant", "bee", "cat", "dog", "eel")


def pool_of(counts, names=()):
    labels = np.repeat(np.arange(len(counts)), counts)
    labels = np.random.default_rng(9).permutation(labels)
    return Pool(np.zeros((len(labels), 2, 2, 3), np.uint8), labels, names)


def drawn_counts(step, pool, seed=0, indices=None):
    indices = np.arange(len(pool.labels)) if indices is None else indices
    chosen = step.select(pool, indices, np.random.default_rng(seed))
    assert len(np.unique(chosen)) == len(chosen) == step.size
    assert np.isin(chosen, indices).all()
    return np.bincount(pool.labels[chosen], minlength=pool.labels.max() + 1)


@given(st.integers(1, 5000), st.integers(1, 1000), st.floats(1, 1e4))
def test_the_long_tail_is_rounded_exponential(size, classes, ratio):
    counts = long_tail_counts(size, classes, ratio)
    profile = np.exp(-np.log(ratio) * np.linspace(0, 1, classes)) if classes > 1 else np.ones(1)
    due = size * profile / profile.sum()
    assert counts.sum() == size
    assert (np.diff(counts) <= 0).all()
    assert (np.abs(counts - due) < 1 + 1e-9).all()
    if classes > 1:
        assert counts[0] - 1 <= ratio * (counts[-1] + 1) * (1 + 1e-9)
        assert counts[0] + 1 >= ratio * (counts[-1] - 1) * (1 - 1e-9)


def test_the_usual_long_tail_of_ten_classes():
    # 500 images in the head class, 100 times as few in the tail.
    due = 500 * 100 ** (-np.arange(10) / 9)
    assert np.abs(long_tail_counts(round(due.sum()), 10, 100) - due).max() < 1


@given(st.integers(1, 500), st.integers(1, 50))
def test_balanced_counts_differ_by_one_at_most(size, classes):
    counts = balanced_counts(size, classes)
    assert counts.sum() == size
    assert counts.max() - counts.min() <= 1


@given(
    st.lists(st.integers(0, 30), min_size=1, max_size=8).filter(any),
    st.integers(1, 60),
    st.floats(1, 200),
    st.integers(0, 99),
)
def test_counts_are_exact_or_the_request_is_refused(available, size, ratio, seed):
    pool = pool_of(available)
    classes = np.count_nonzero(available)
    for step, wanted in [
        (LongTail(size, ratio), long_tail_counts(size, classes, ratio)),
        (Balanced(size), balanced_counts(size, classes)),
    ]:
        if (np.sort(available)[::-1][:classes] < wanted).any():  # no order of the classes has enough
            with pytest.raises(RequestError, match="images wanted"):
                drawn_counts(step, pool, seed)
            continue
        try:
            counts = drawn_counts(step, pool, seed)
        except RequestError:  # the order that the seed has drawn has not
            assert min(filter(None, available)) < wanted.max()
        else:
            assert sorted(counts[counts > 0]) == sorted(wanted[wanted > 0])


@given(st.integers(1, 5), st.integers(0, 99))
def test_only_so_many_classes(classes, seed):
    counts = drawn_counts(Balanced(20, classes), pool_of([20] * 5), seed)
    assert np.count_nonzero(counts) == classes
    assert sorted(counts[counts > 0]) == sorted(balanced_counts(20, classes))


@pytest.mark.parametrize(("share", "classes"), [(0.25, 2), (0.5, 4), (0.01, 1), (1.0, 8)])
def test_a_share_of_the_classes_that_the_pool_has(share, classes):
    pool = pool_of([9, 0, 9, 9, 9, 9, 9, 9, 9])
    assert np.count_nonzero(drawn_counts(Balanced(8, share), pool)) == classes


def test_named_classes():
    counts = drawn_counts(Balanced(5, names=("dog", "bee")), pool_of([4] * 5, NAMES))
    assert sorted(counts[[1, 3]]) == [2, 3]
    assert counts.sum() == 5


def test_the_seed_draws_images_classes_and_their_order():
    pool = pool_of([40] * 5)
    heads = {int(drawn_counts(LongTail(40, 10), pool, seed).argmax()) for seed in range(30)}
    chosen = {int(drawn_counts(Balanced(10, 1), pool, seed).argmax()) for seed in range(30)}
    assert heads == chosen == set(range(5))
    again = [LongTail(40).select(pool, np.arange(200), np.random.default_rng(3)) for _ in range(2)]
    assert np.array_equal(*again)


def test_steps_draw_from_what_is_left():
    pool = pool_of([40] * 5)
    left = np.arange(1, 200, 2)
    for step in (CalibrationSize(30), Balanced(30), LongTail(30)):
        drawn_counts(step, pool, indices=left)


def test_too_few_images_are_refused_with_the_class_and_the_numbers():
    pool = pool_of([9, 9, 3, 9, 9], NAMES)
    with pytest.raises(RequestError, match=r"^25 images, balanced: class 'cat' has 3 of the 5 images wanted$"):
        drawn_counts(Balanced(25), pool)
    with pytest.raises(RequestError, match="7 classes: expected at most 5"):
        drawn_counts(Balanced(7, 7), pool)
    with pytest.raises(RequestError, match="unknown class 'cart': did you mean 'cat'"):
        drawn_counts(Balanced(2, names=("cart",)), pool)
    with pytest.raises(RequestError, match="long tail 10: class 'cat' has 3 of the"):
        [drawn_counts(LongTail(20), pool, seed) for seed in range(10)]
    few = np.flatnonzero(pool.labels != 1)
    with pytest.raises(RequestError, match="class 'bee' has 0 of the 1 images wanted"):
        drawn_counts(Balanced(5), pool, indices=few)


@pytest.mark.parametrize(
    ("step", "options"),
    [
        (Balanced, {"size": 0}),
        (Balanced, {"classes": 0}),
        (Balanced, {"classes": 0.0}),
        (Balanced, {"classes": 1.5}),
        (Balanced, {"classes": 2, "names": ("cat",)}),
        (Balanced, {"names": ("cat", "cat")}),
        (LongTail, {"size": 0}),
        (LongTail, {"ratio": 0.5}),
        (LongTail, {"ratio": float("inf")}),
    ],
)
def test_impossible_options_are_refused(step, options):
    with pytest.raises(RequestError, match="expected"):
        step(**options)


def test_names_for_people_and_images_untouched():
    assert [str(Balanced(8)), str(Balanced(8, 1)), str(Balanced(8, 0.25)), str(Balanced(8, names=("cat", "dog")))] == [
        "8 images, balanced",
        "8 images of 1 class only",
        "8 images of 25 % of classes only",
        "8 images of cat and dog only",
    ]
    assert str(LongTail(64, 100)) == "64 images, long tail 100"
