import numpy as np
import pytest
import torch

from evalsuite.errors import RequestError
from evalsuite.running.evaluation import predictions


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
