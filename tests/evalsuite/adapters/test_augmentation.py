import dataclasses

import pytest
import torch
from torch.nn import functional as F

from evalsuite.adapters._augmentation import Jitter, PixelScale, _blurred, _turned
from evalsuite.randomness import torch_generator

STRENGTHS = [field.name for field in dataclasses.fields(Jitter) if field.name != "views"]
STILL = Jitter(**dict.fromkeys(STRENGTHS, 0.0), views="image")


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


def test_images_of_a_batch_are_changed_alike_but_for_the_noise_and_each_on_its_own_where_asked():
    scale = PixelScale(torch.zeros(3, 1, 1), torch.ones(3, 1, 1))
    twins = pictures(1).expand(5, -1, -1, -1)
    for views, alike in (("batch", True), ("image", False)):
        changed = Jitter(noise=0.0, views=views)(twins, scale, torch_generator(3))
        assert all(torch.allclose(one, changed[0], atol=1e-6) for one in changed[1:]) is alike
    noisy = Jitter(views="batch")(twins, scale, torch_generator(3))
    assert 0.002 < float((noisy[1:] - noisy[:1]).std()) < 0.02


def test_one_call_has_the_same_colours_for_all_and_another_call_has_others():
    scale = PixelScale(torch.zeros(3, 1, 1), torch.ones(3, 1, 1))
    generator = torch_generator(0)
    colours = dataclasses.replace(STILL, **{name: getattr(Jitter(), name) for name in ("hue", "gamma")}, views="batch")
    first, second = (colours(pictures(), scale, generator) for _ in range(2))
    assert not torch.allclose(first.mean((2, 3)), second.mean((2, 3)), atol=1e-3)


@pytest.mark.parametrize("strength", STRENGTHS)
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
    third = _turned(red, torch.full((1, 1, 1, 1), 1 / 3))
    torch.testing.assert_close(third.flatten(), torch.tensor([0.0, 1.0, 0.0]), atol=1e-5, rtol=0)
    grey = torch.full((1, 3, 2, 2), 0.4)
    torch.testing.assert_close(_turned(grey, torch.full((1, 1, 1, 1), 0.2)), grey)


def test_blur_keeps_the_mean_of_a_flat_picture_and_smooths_a_point():
    torch.testing.assert_close(_blurred(torch.full((1, 3, 6, 6), 0.3), 0.5), torch.full((1, 3, 6, 6), 0.3))
    point = torch.zeros(1, 1, 9, 9)
    point[0, 0, 4, 4] = 1
    found = _blurred(point, 1.0)
    assert found.sum() == pytest.approx(1, abs=1e-5)
    assert found[0, 0, 4, 4] < 0.2
