"""Methods that keep what reaches a unit, on networks whose images lie along another dimension than the first."""

from __future__ import annotations

import pytest
import torch
from _dummies.arranged import arranged
from _dummies.models import random_images

import evalsuite

X = random_images(12, seed=1).double()
ITERATIONS = {"iterations": 4, "batch_size": 6, "learning_rate": 1e-2}
CASES = [
    ("gptq", {}),
    ("adaround", ITERATIONS),
    ("brecq", {**ITERATIONS, "fisher": True}),
    ("qdrop", ITERATIONS),
    ("pd_quant", ITERATIONS),
    ("ttaq", ITERATIONS | {"pem": 0.5}),
]


def outputs(network, method, options):
    made = evalsuite.quantize(network, X, method=method, weight_bits=4, activation_bits=8, **options)
    with torch.no_grad():
        return made(X)


@pytest.mark.filterwarnings("ignore::evalsuite.errors.QuantizationWarning")
@pytest.mark.parametrize(("method", "options"), CASES)
def test_tokens_first_is_images_first(method, options):
    # In double precision: sums in another order would else tip roundings.
    first, tokens = (outputs(net.double(), method, options) for net in arranged("images first", "tokens first"))
    torch.testing.assert_close(tokens, first, rtol=1e-6, atol=1e-6)


@pytest.mark.filterwarnings("ignore::evalsuite.errors.QuantizationWarning")
@pytest.mark.parametrize("method", ["adaround", "brecq", "qdrop"])
def test_crops_that_share_a_dimension_with_the_images(method):
    (network,) = arranged("two in the batch")
    network.double()
    with torch.no_grad():
        wanted = network(X)
    options = {**ITERATIONS, "iterations": 20}
    first, again = (outputs(network, method, options) for _ in range(2))
    assert torch.equal(first, again)
    nearest = outputs(network, "rtn", {})
    assert (first - wanted).norm() < 1.2 * (nearest - wanted).norm()
