import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from evalsuite.errors import RequestError
from evalsuite.randomness import numpy_generator, torch_generator


@given(st.integers(0, 2**31), st.lists(st.text() | st.integers(), max_size=3))
def test_same_keys_same_draws(seed, keys):
    assert np.array_equal(numpy_generator(seed, *keys).random(3), numpy_generator(seed, *keys).random(3))
    first, second = (torch.rand(3, generator=torch_generator(seed, *keys)) for _ in range(2))
    assert torch.equal(first, second)


def test_a_seed_is_an_integer_in_any_form():
    for same in (7.0, np.int64(7), np.float32(7)):
        assert numpy_generator(same, "a").random() == numpy_generator(7, "a").random()
        assert torch_generator(same).initial_seed() == torch_generator(7).initial_seed()
    for wrong in (7.5, True, "7", None, float("inf")):
        with pytest.raises(RequestError, match=r"^seed = .*: expected an integer"):
            numpy_generator(wrong)


@pytest.mark.parametrize("bits", [63, 64, 70, 16_000])
def test_a_seed_has_64_bits(bits):
    with pytest.raises(RequestError, match=r"^seed = a whole number of \d+ bits: expected one below 2\^63 in size"):
        torch_generator(-(2**bits) - 1, "a")
    assert numpy_generator(2**63 - 1).random() != numpy_generator(-(2**63)).random()


def test_every_key_matters():
    draws = {
        numpy_generator(*keys).random()
        for keys in [(0,), (1,), (0, "a"), (0, "b"), (0, "a", 1), (0, "a", 2), (0, 1, "a")]
    }
    assert len(draws) == 7
