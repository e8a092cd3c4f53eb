import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from reports.frames.first_screen import worst_first

NETWORK = st.tuples(st.booleans(), st.sampled_from([0.5, 1.0]), st.floats(-0.125, 0.5))


@given(st.lists(NETWORK, min_size=1, max_size=8))
def test_networks_that_lose_as_much_of_a_class_are_told_apart_by_their_mean(networks):
    """As where classes have an image each, and every network loses one: the one that loses most others comes first."""
    ordered = worst_first(pd.DataFrame(networks, columns=["beyond", "worst_drop_class_value", "drop"]))
    assert [tuple(row) for row in ordered.to_numpy()] == sorted(networks, reverse=True)
