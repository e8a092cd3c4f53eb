from __future__ import annotations

import pytest
import torch
from _dummies.models import random_images, tiny_resnet, tiny_transformer

from evalsuite.bits import BitPolicy
from evalsuite.errors import RequestError
from evalsuite.quantizers.qdrop import QDrop
from evalsuite.quantizers.rtn import RoundToNearest
from evalsuite.randomness import torch_generator

X = random_images(48)
FAST = {"iterations": 30, "learning_rate": 0.04, "batch_size": 16, "range_images": 24, "steps": 20, "bins": 256}


def calibrated(model, plugin, seed=0):
    twin = plugin.insert(model, BitPolicy(2, 3), X[:1])
    plugin.calibrate(twin, X, torch_generator(seed))
    return twin


@torch.no_grad()
@pytest.mark.parametrize("drop", [0.0, 0.5])
def test_few_bits_keep_more_than_by_rounding_to_nearest(drop):
    for build in (tiny_resnet, tiny_transformer):
        model = build()
        expected = model(X)
        plugins = (QDrop(**FAST, drop=drop), RoundToNearest())
        errors = [(calibrated(model, plugin)(X) - expected).square().mean() for plugin in plugins]
        assert errors[0] < errors[1] * 0.7


def test_the_seed_decides_and_dropping_matters():
    twins = [
        calibrated(tiny_resnet(), QDrop(**FAST | {"iterations": 5, "drop": drop}), seed).state_dict()
        for drop, seed in ((0.5, 0), (0.5, 0), (0.5, 1), (0.0, 0))
    ]
    same, *other = ([torch.equal(value, twin[name]) for name, value in twins[0].items()] for twin in twins[1:])
    assert all(same)
    assert not any(map(all, other))


@pytest.mark.parametrize("wrong", [{"drop": 1.5}, {"range_images": 0}, {"step_rate": -1.0}])
def test_impossible_options_are_named(wrong):
    with pytest.raises(RequestError, match=f"{next(iter(wrong))} = .*expected"):
        QDrop(**wrong)
