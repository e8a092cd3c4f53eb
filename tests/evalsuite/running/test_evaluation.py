import numpy as np
import pytest
import torch

from evalsuite.errors import RequestError
from evalsuite.plugins import TaskData
from evalsuite.running.evaluation import Predictions, predictions, records
from evalsuite.streams import Domain, Stream


def test_logits_are_read_against_labels():
    logits = torch.tensor([[2.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    read = predictions(logits, np.array([0, 1]))
    shares = torch.softmax(logits, dim=1).numpy()
    assert read.prediction.tolist() == [0, 2]
    np.testing.assert_allclose(read.confidence, shares.max(axis=1), rtol=1e-6)
    np.testing.assert_allclose(read.loss, -np.log([shares[0, 0], shares[1, 1]]), rtol=1e-6)
    np.testing.assert_allclose(read.brier, ((shares - np.eye(3)[[0, 1]]) ** 2).sum(axis=1), rtol=1e-5)


def test_a_label_without_a_logit_is_named():
    with pytest.raises(RequestError, match=r"logits of 3 classes; expected at least 6, as labels go"):
        predictions(torch.zeros(2, 3), np.array([0, 5]))


def test_records_in_parts_are_those_of_the_whole_stream():
    generator = np.random.default_rng(0)
    size, starts = 23, np.array([0, 4, 11, 12, 20])
    stream = Stream(
        (Domain("clean", 0), Domain("fog", 3)),
        generator.integers(0, 6, size).astype(np.int32),
        np.repeat([0, 1, 0], [8, 8, 7]).astype(np.int16),
        starts,
        np.zeros(5, np.bool_),
    )
    said = Predictions(*(np.arange(size).astype(kind) for kind in (np.int32, *[np.float32] * 3)))
    pixels = np.zeros((6, 4, 4, 3), np.uint8)
    data = TaskData(
        *(pixels, np.arange(6) % 2, pixels, np.arange(6) % 2, ("a", "b"), (0.5,) * 3, (0.5,) * 3),
        groups={"site": np.array([3, 1, 4, 1, 5, 9])},
    )
    resets = np.array([False, True, False, False, True])
    (whole,) = records(stream, said, resets, data)
    parts = list(records(stream, said, resets, data, 5))
    assert [len(part["image"]) for part in parts] == [5, 5, 5, 5, 3]
    for name, values in whole.items():
        assert [value for part in parts for value in part[name].tolist()] == values.tolist(), name
    assert whole["batch"].tolist() == stream.batch_of().tolist()
    assert whole["reset"].tolist() == [number in (1, 4) for number in stream.batch_of()]
