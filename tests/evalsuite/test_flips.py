import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from evalsuite.flips import largest_drop, negative_flips, surest

ROWS = st.lists(
    st.tuples(st.integers(0, 3), st.booleans(), st.booleans(), st.floats(0, 1)), min_size=1, max_size=30
).map(lambda rows: tuple(np.array(column) for column in zip(*rows, strict=True)))


@given(ROWS)
def test_the_worst_group_loses_most_and_is_the_first_of_equals(rows):
    groups, wrong, reference, _ = rows
    drops = {int(g): (wrong[groups == g].mean() - reference[groups == g].mean()) for g in np.unique(groups)}
    worst = largest_drop(groups, wrong, reference)
    assert all(drop <= drops[worst] + 1e-12 for drop in drops.values())
    assert all(group >= worst for group, drop in drops.items() if abs(drop - drops[worst]) < 1e-12)


@given(ROWS, st.integers(0, 5))
def test_the_surest_flips_come_first_each_picture_once_and_no_other_row_does(rows, most):
    picture, wrong, reference, confidence = rows
    flips = negative_flips(wrong, reference)
    chosen = surest(flips, confidence, picture, most=most)
    pictures = {int(each): confidence[flips & (picture == each)].max() for each in picture[flips]}
    best = sorted(pictures, key=lambda each: (-pictures[each], each))
    assert [int(picture[row]) for row in chosen] == best[:most]
    assert all(flips[row] and confidence[row] == pictures[int(picture[row])] for row in chosen)


def test_a_confidence_that_is_no_number_is_no_certainty():
    assert surest(np.array([True, True, False]), [np.nan, 0.2, 0.9], [0, 1, 2]) == [1, 0]
