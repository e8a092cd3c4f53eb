import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalsuite.corruptions import COMMON
from evalsuite.errors import RequestError
from protocols.continual import ContinualOrder

LABELS = np.zeros(40, np.int64)


def planned(**options):
    return ContinualOrder(**{"images": 20, "batch_size": 8, **options}).plan(LABELS, np.random.default_rng(0))


@given(st.sampled_from(["usual", "reversed"]), st.integers(1, 40), st.integers(1, 50), st.booleans())
def test_every_domain_shows_the_same_images_once(order, images, batch_size, clean_first):
    stream = planned(order=order, images=images, batch_size=batch_size, clean_first=clean_first)
    for number in range(len(stream.domains)):
        assert np.array_equal(np.sort(stream.image[stream.domain == number]), np.arange(images))
    assert (np.diff(stream.domain) >= 0).all()


def test_reversed_is_the_usual_list_backwards():
    usual, back = (ContinualOrder(order=order).domains() for order in ("usual", "reversed"))
    assert usual == back[::-1]
    assert [domain.name for domain in usual] == list(COMMON)


def test_clean_comes_first_in_either_order():
    for order in ("usual", "reversed"):
        assert ContinualOrder(order=order, clean_first=True).domains()[0].name == "clean"


def test_batches_run_across_domains_unless_an_oracle_resets():
    never, oracle = planned(), planned(reset="domain")
    assert not never.resets.any()
    assert any(len(set(batch.domain)) == 2 for batch in never.batches())
    assert all(len(set(batch.domain)) == 1 for batch in oracle.batches())
    assert oracle.resets.sum() == 15
    assert "oracle reset" in str(ContinualOrder(reset="domain"))


def test_more_images_than_the_test_set_has():
    with pytest.raises(RequestError, match="41 images a domain: the test set has 40"):
        planned(images=41)


@pytest.mark.parametrize("options", [{"severity": 6}, {"corruptions": ()}, {"images": 0}, {"batch_size": 0}])
def test_impossible_streams_are_refused(options):
    with pytest.raises(RequestError):
        ContinualOrder(**options)
