from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from evalsuite.errors import RequestError
from evalsuite.plugins import TaskData

N, M, CLASSES = 6, 4, ("a", "b", "c")
DRAWN = np.random.default_rng(0)
IMAGES = {
    "test_images": DRAWN.integers(0, 256, (N, 8, 9, 3), np.uint8),
    "pool_images": np.zeros((M, 8, 9, 3), np.uint8),
}
LABELS = {"test_labels": np.arange(N) % 3, "pool_labels": np.arange(M) % 3}
RIGHT = TaskData(**IMAGES, **LABELS, classes=CLASSES, mean=(0.5, 0.4, 0.3), std=(0.2, 0.2, 1.0))


@pytest.mark.parametrize("part", ["test", "pool"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x.astype(np.float32) / 255, r"are float32 \(\d, 8, 9, 3\): expected .* uint8"),
        (lambda x: x.transpose(0, 3, 1, 2), r"are uint8 \(\d, 3, 8, 9\)"),
        (lambda x: x[..., 0], r"are uint8 \(\d, 8, 9\)"),
        (lambda x: np.concatenate([x, x[..., :1]], axis=3), r"\(\d, 8, 9, 4\)"),
        (lambda x: x[:0], r"\(0, 8, 9, 3\)"),
        (lambda x: x.astype(np.int16), "are int16"),
        (torch.from_numpy, "are a torch.Tensor: expected a numpy array"),
        (list, "are a list"),
        (lambda x: np.ones_like(x), "hold only 0 and 1"),
    ],
)
def test_images_of_another_shape_type_or_scale(part: str, change, message: str):
    name = f"{part}_images"
    with pytest.raises(RequestError, match=f"^{name} .*{message}") as caught:
        replace(RIGHT, **{name: change(IMAGES[name])})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("part", ["test", "pool"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda y: y + 1, r"are 1\.\.3: expected .* 0\.\.2"),
        (lambda y: y - 1, r"are -1\.\.1"),
        (lambda y: y.astype(float), "are float64"),
        (lambda y: y[:, None], r"are int64 \(\d, 1\)"),
        (lambda y: np.eye(3, dtype=int)[y], r"are int64 \(\d, 3\)"),
        (lambda y: y[:-1], r"are int64 \(\d,\): expected a numpy array \(\d,\)"),
        (lambda y: y > 0, "are bool"),
        (torch.from_numpy, "are a torch.Tensor"),
        (lambda y: y.astype(str), "are <U"),
    ],
)
def test_labels_of_another_shape_type_or_range(part: str, change, message: str):
    name = f"{part}_labels"
    with pytest.raises(RequestError, match=f"^{name} .*{message}"):
        replace(RIGHT, **{name: change(LABELS[name])})


@given(st.sampled_from([np.uint8, np.int8, np.int16, np.uint16, np.int32, np.uint32, np.uint64]))
def test_labels_of_any_integer_type_are_the_same_labels(dtype):
    data = replace(RIGHT, test_labels=LABELS["test_labels"].astype(dtype))
    assert data.test_labels.dtype == np.int64
    np.testing.assert_array_equal(data.test_labels, RIGHT.test_labels)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": CLASSES[:-1]}, r"test_labels are 0\.\.2: expected .* 0\.\.1"),
        ({"classes": ("a", "a", "c")}, "'a' twice"),
        ({"classes": ()}, "no classes"),
        ({"classes": "abc"}, "classes are a str"),
        ({"classes": (0, 1, 2)}, "classes hold 0"),
        ({"std": (0.0, 0.0, 0.0)}, "std above 0"),
        ({"mean": (127.0, 127.0, 127.0)}, r"on the scale 0\.\.1"),
        ({"std": (58.0, 57.0, 57.0)}, r"on the scale 0\.\.1"),
        ({"mean": (0.5, np.nan, 0.5)}, "finite"),
        ({"mean": 0.5}, "three numbers"),
        ({"std": (0.5, 0.5)}, "three numbers"),
        ({"data_set": None}, "data_set"),
        ({"pool_images": np.zeros((M, 9, 9, 3), np.uint8)}, "same height and width"),
        ({"groups": [1]}, "groups are a list"),
        ({"groups": {1: np.arange(N)}}, "group column 1"),
    ],
)
def test_everything_else(options: dict, message: str):
    with pytest.raises(RequestError, match=message):
        replace(RIGHT, **options)


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (np.full(N, np.nan), "holds nan"),
        ([1.0, np.inf, 0, 0, 0, 0], "holds inf"),
        (np.array(["a", None, "b", "c", "d", "e"], dtype=object), "holds None"),
        (pd.Series(["a", np.nan, "b", "c", "d", "e"]), "holds nan"),
        (np.arange(N - 1), r"of shape \(5,\): expected 6"),
        (np.zeros((N, 2)), r"of shape \(6, 2\)"),
        (np.zeros(N, "datetime64[s]"), "datetime64"),
        ([[1], [1, 2], 3, 4, 5, 6], "is a list"),
    ],
)
def test_group_columns_that_no_record_could_hold(column, message: str):
    with pytest.raises(RequestError, match=f"group column 'site' .*{message}"):
        replace(RIGHT, groups={"site": column})


@pytest.mark.parametrize("column", [list("aabbcc"), pd.Series(range(N)), np.arange(N) > 2, np.linspace(0, 1, N)])
def test_group_columns_become_arrays(column):
    data = replace(RIGHT, groups={"site": column})
    assert data.groups["site"][np.array([2, 1])].tolist() == [column[2], column[1]]
