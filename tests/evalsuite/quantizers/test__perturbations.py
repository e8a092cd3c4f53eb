from __future__ import annotations

import pytest
import torch
from _dummies.models import random_images

from evalsuite.quantizers._perturbations import perturb
from evalsuite.randomness import torch_generator

X = random_images(64)


def test_the_seed_decides_and_the_images_stay():
    before = X.clone()
    one, same, other = (perturb(X, 1.0, torch_generator(seed)) for seed in (0, 0, 1))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert torch.equal(X, before)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_shape_range_and_layout_are_kept(layout):
    x = X.contiguous(memory_format=layout)
    out = perturb(x, 2.0, torch_generator(0))
    assert out.shape == x.shape
    assert out.is_contiguous(memory_format=layout)
    assert out.isfinite().all()
    low, high = x.amin((0, 2, 3), keepdim=True), x.amax((0, 2, 3), keepdim=True)
    assert bool((out >= low).all() & (out <= high).all())


def test_more_strength_changes_more():
    smooth = torch.nn.functional.interpolate(random_images(64)[:, :, :4, :4], 32, mode="bilinear")
    distances = [(perturb(smooth, s, torch_generator(0)) - smooth).square().mean() for s in (0.25, 0.5, 1.0, 2.0)]
    assert distances == sorted(distances)
    changed = (perturb(smooth, 1.0, torch_generator(0)) != smooth).flatten(1).any(dim=1)
    assert changed.float().mean() > 0.9


def test_large_images_and_single_ones_work():
    assert perturb(torch.rand(1, 3, 96, 64), 1.0, torch_generator(0)).shape == (1, 3, 96, 64)
    assert perturb(torch.rand(5, 3, 4, 4), 1.0, torch_generator(0)).shape == (5, 3, 4, 4)
