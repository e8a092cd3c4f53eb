import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from evalsuite.adaptation.batches import as_ranges, flags, later, renumbered


@given(st.sets(st.integers(0, 60)), st.integers(0, 9))
def test_ranges_hold_the_numbers_and_move_with_them(numbers, by):
    ranges = as_ranges(sorted(numbers))
    assert set(np.flatnonzero(flags(ranges, 61))) == numbers
    assert all(before[1] < after[0] for before, after in itertools.pairwise(ranges))
    moved = flags(later(ranges, by), 70)
    assert set(np.flatnonzero(moved)) == {number + by for number in numbers}
    assert np.array_equal(moved, flags(later(sorted(numbers), by), 70))


@given(st.lists(st.integers(0, 99), min_size=1, max_size=20, unique=True), st.data())
def test_numbers_and_ranges_become_the_numbers_elsewhere(at, data):
    at = sorted(at)
    chosen = sorted(data.draw(st.sets(st.sampled_from(range(len(at))))))
    assert renumbered(chosen, at) == renumbered(as_ranges(chosen), at) == [at[number] for number in chosen]
