import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from evalsuite.adaptation.collapse import CollapseWatch, first_collapse


def brute(prediction, label, window, share):
    for end in range(window, len(prediction) + 1):
        most = [np.bincount(values[end - window : end]).max() for values in (prediction, label)]
        if most[0] > share * window >= most[1]:
            return end - 1
    return None


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 10_000), length=st.integers(1, 60), window=st.integers(2, 20), share=st.floats(0.5, 0.9))
def test_agrees_with_a_loop(seed, length, window, share):
    generator = np.random.default_rng(seed)
    prediction, label = (generator.choice(3, length, p=[0.8, 0.1, 0.1]).astype(np.int32) for _ in range(2))
    assert first_collapse(prediction, label, window, share) == brute(prediction, label, window, share)


def test_one_class_for_everything_is_a_collapse_but_not_where_the_labels_are_sorted():
    mixed, one = np.tile(np.arange(10, dtype=np.int32), 100), np.zeros(1000, np.int32)
    assert first_collapse(one, mixed) == 499
    assert first_collapse(mixed, mixed) is None
    ordered = np.repeat(np.arange(2, dtype=np.int32), 1000)
    assert first_collapse(ordered, ordered) is None
    assert first_collapse(np.zeros(2000, np.int32), ordered) == 1000 + 24
    assert first_collapse(one[:499], mixed[:499]) is None
    for healthy in (65_535 - 499, 65_535, 65_536, 70_000):  # about where blocks meet
        labels = np.arange(healthy + 600, dtype=np.int32) % 10
        said = np.where(np.arange(len(labels)) < healthy, labels, 3).astype(np.int32)
        assert (
            first_collapse(said, labels)
            == first_collapse(said[healthy - 500 :], labels[healthy - 500 :]) + healthy - 500
        )


def test_watch_fires_once_its_window_is_full_and_begins_anew():
    watch = CollapseWatch(window=20, share=0.9)
    zeros = np.zeros(10, np.int32)
    assert [watch.collapsed(zeros) for _ in range(4)] == [False, True, False, True]
    assert not any(watch.collapsed(np.arange(10, dtype=np.int32)) for _ in range(5))
