import dataclasses
import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from evalsuite import hashing

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(plain)
def test_canonical_form_survives_json(value):
    assert hashing.digest(json.loads(hashing.canonical_json(value))) == hashing.digest(value)


@given(st.dictionaries(st.text(), st.integers(), min_size=2))
def test_order_of_keys_does_not_matter(value):
    assert hashing.digest(dict(reversed(value.items()))) == hashing.digest(value)


def test_known_digest_stays():
    assert hashing.digest({"task": "digits/vit", "seed": 0}) == "ddf483371ec68c6d"


def test_dataclasses_and_numpy_scalars_are_plain():
    point = dataclasses.make_dataclass("Point", ["x"])(np.int64(3))
    assert hashing.digest(point) == hashing.digest({"x": 3})


def test_nan_and_strange_objects_are_refused():
    with pytest.raises(ValueError, match="JSON"):
        hashing.digest(float("nan"))
    with pytest.raises(TypeError, match="object has no canonical form"):
        hashing.digest(object())


def test_arrays_differ_by_shape_and_dtype():
    array = np.arange(6)
    others = [array.reshape(2, 3), array.astype(np.float64), array[::-1]]
    assert len({hashing.digest_arrays(a) for a in [array, *others]}) == 4


def test_tensors_do_not_depend_on_the_order_of_names():
    a, b = torch.ones(2), torch.zeros(3)
    assert hashing.digest_tensors({"a": a, "b": b}) == hashing.digest_tensors({"b": b, "a": a})
    assert hashing.digest_tensors({"a": a, "b": b}) != hashing.digest_tensors({"a": b, "b": a})
