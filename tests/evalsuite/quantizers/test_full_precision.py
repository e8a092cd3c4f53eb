from __future__ import annotations

import torch
from _dummies.models import random_images, tiny_resnet

from evalsuite import registry
from evalsuite.quantizers.full_precision import FullPrecision


def test_it_is_a_copy_in_eval_mode():
    model = tiny_resnet().train()
    plugin = FullPrecision()
    twin = plugin.insert(model, None, random_images(1))
    plugin.calibrate(twin, random_images(2), torch.Generator())
    assert model.training
    assert not twin.training
    assert twin is not model
    assert torch.equal(twin(random_images()), model.eval()(random_images()))


def test_it_is_registered_as_one_that_needs_no_calibration():
    assert registry.load("quantizers", "full_precision").calibrated is False
    assert registry.option_names("quantizers", "full_precision") == []
    assert "floating-point" in registry.summary("quantizers", "full_precision")
