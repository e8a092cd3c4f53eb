from __future__ import annotations

import pytest
import torch
from _dummies.models import random_images, tiny_resnet, tiny_transformer
from torch.nn import functional as F

from evalsuite.bits import BitPolicy
from evalsuite.errors import QuantizationWarning, RequestError
from evalsuite.quantizers.pd_quant import PDQuant
from evalsuite.quantizers.qdrop import QDrop
from evalsuite.randomness import torch_generator

X = random_images(48)
FAST = {"iterations": 25, "learning_rate": 0.04, "batch_size": 16, "range_images": 24, "steps": 20, "bins": 256}


def calibrated(model, plugin, **bits):
    twin = plugin.insert(model, BitPolicy(2, 3, **bits), X[:1])
    plugin.calibrate(twin, X, torch_generator(0))
    return twin


@torch.no_grad()
def test_predictions_stay_nearer():
    model = tiny_resnet()
    expected = model(X).log_softmax(1)
    plugins = (PDQuant(**FAST, prediction_weight=100.0, temperature=1.0, correction_steps=0), QDrop(**FAST))
    found = [calibrated(model, plugin)(X).log_softmax(1) for plugin in plugins]
    near, far = (F.kl_div(one, expected, log_target=True, reduction="batchmean") for one in found)
    assert near < far


def test_without_its_parts_it_is_qdrop():
    few = FAST | {"iterations": 3}
    states = [
        calibrated(tiny_resnet(), plugin).state_dict()
        for plugin in (PDQuant(**few, prediction_weight=0.0, correction_steps=0), QDrop(**few))
    ]
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


def test_statistics_are_corrected_where_there_are_any():
    plain, corrected = (PDQuant(**FAST | {"iterations": 2}, prediction_weight=0.0, correction_steps=n) for n in (0, 2))
    states = [calibrated(tiny_resnet(), plugin).state_dict() for plugin in (plain, corrected)]
    assert not all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    with pytest.warns(QuantizationWarning, match="^no BatchNorm layer"):
        calibrated(tiny_transformer(), corrected)
    with pytest.warns(QuantizationWarning, match="^no BatchNorm layer"):
        calibrated(tiny_resnet(), corrected, fold_norm=True)


@pytest.mark.parametrize("wrong", [{"temperature": 0.0}, {"prediction_weight": -1.0}, {"correction_steps": -1}])
def test_impossible_options_are_named(wrong):
    with pytest.raises(RequestError, match=f"{next(iter(wrong))} = .*expected"):
        PDQuant(**wrong)
