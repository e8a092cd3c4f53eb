import dataclasses

import pytest
import torch
from torch.nn import functional as F

from evalsuite.adapters._augmentation import Jitter, PixelScale, _blurred, _hue
from evalsuite.randomness import torch_generator

STILL = Jitter(**{field.name: 0.0 for field in dataclasses.fields(Jitter)})


def pictures(n=6, seed=0):
    pixels = F.interpolate(torch.rand(n, 3, 4, 4, generator=torch.Generator().manual_seed(seed)), 16, mode="bilinear")
    return 0.05 + 0.9 * pixels


def test_pixel_scale_inverts():
    images = torch.randn(4, 3, 8, 8)
    scale = PixelScale.of(images)
    torch.testing.assert_close(scale.normalised(scale.pixels(images)), images)
    assert scale.pixels(images).amin() == 0
    assert scale.pixels(images).amax() == 1


def test_without_strength_only_the_flip_remains():
    images = pictures()
    scale = PixelScale(torch.zeros(3, 1, 1), torch.ones(3, 1, 1))
    found = STILL(images, scale, torch_generator(0))
    flips = [torch.allclose(own, one.flip(2), atol=1e-4) for own, one in zip(found, images, strict=True)]
    plain = [torch.allclose(own, one, atol=1e-4) for own, one in zip(found, images, strict=True)]
    assert all(a != b for a, b in zip(flips, plain, strict=True))
    assert 0 < sum(flips) < len(images)


@pytest.mark.parametrize("strength", [field.name for field in dataclasses.fields(Jitter)])
def test_each_strength_changes_pixels_within_the_scale(strength):
    scale = PixelScale(torch.zeros(3, 1, 1), torch.ones(3, 1, 1))
    images = torch.rand(6, 3, 16, 16, generator=torch.Generator().manual_seed(0)) if strength == "blur" else pictures()
    own = dataclasses.replace(STILL, **{strength: 1.0 if strength == "blur" else getattr(Jitter(), strength)})
    found, still = own(images, scale, torch_generator(2)), STILL(images, scale, torch_generator(2))
    assert found.amin() >= 0
    assert found.amax() <= 1
    assert (found - still).abs().mean() > 1e-4
    assert torch.equal(own(images, scale, torch_generator(2)), found)


def test_hue_turns_colours_and_keeps_grey():
    red = torch.tensor([1.0, 0.0, 0.0]).reshape(1, 3, 1, 1)
    third = _hue(red, torch.full((1, 1, 1, 1), 1 / 3))
    torch.testing.assert_close(third.flatten(), torch.tensor([0.0, 1.0, 0.0]), atol=1e-5, rtol=0)
    grey = torch.full((1, 3, 2, 2), 0.4)
    torch.testing.assert_close(_hue(grey, torch.full((1, 1, 1, 1), 0.2)), grey)


def test_blur_keeps_the_mean_of_a_flat_picture_and_smooths_a_point():
    torch.testing.assert_close(_blurred(torch.full((1, 3, 6, 6), 0.3), 0.5), torch.full((1, 3, 6, 6), 0.3))
    point = torch.zeros(1, 1, 9, 9)
    point[0, 0, 4, 4] = 1
    found = _blurred(point, 1.0)
    assert found.sum() == pytest.approx(1, abs=1e-5)
    assert found[0, 0, 4, 4] < 0.2
