import io

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from evalsuite.corruptions import corrupt
from evalsuite.corruptions.digital import _resize, _smooth_field


def images(count, height, width):
    return np.random.default_rng(0).integers(0, 256, (count, height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("method", [Image.Resampling.BOX, Image.Resampling.NEAREST])
@pytest.mark.parametrize("size", [(21, 20), (16, 16), (50, 64)])
def test_resizing_together_is_resizing_one_by_one(method, size):
    clean = images(5, 32, 40)
    expected = [np.asarray(Image.fromarray(image).resize(size[::-1], method)) for image in clean]
    assert np.array_equal(_resize(clean, *size, method), expected)


@pytest.mark.parametrize(("constants", "quality"), [("cifar", 58), ("imagenet", 15)])
def test_jpeg_is_pils(constants, quality):
    clean = ndimage.gaussian_filter(images(3, 50, 70), (0, 2, 2, 0))
    for image, made in zip(clean, corrupt(clean, "jpeg_compression", 3, constants=constants), strict=True):
        code = io.BytesIO()
        Image.fromarray(image).save(code, "JPEG", quality=quality)
        assert np.abs(np.asarray(Image.open(code)).astype(int) - made).max() <= 2


def test_contrast_keeps_the_mean_and_shrinks_the_deviation():
    clean = images(4, 64, 64) // 2 + 40
    made = corrupt(clean, "contrast", 3)
    assert np.allclose(made.mean(axis=(1, 2)) + 0.5, clean.mean(axis=(1, 2)), atol=0.2)
    assert made.std() == pytest.approx(0.2 * clean.std(), rel=0.02)


def test_elastic_fields_are_smoothed_as_scipy_does():
    field = np.random.default_rng(0).random((32, 48), dtype=np.float32)
    expected = ndimage.gaussian_filter(field, (0.06 * 32, 0.06 * 48), mode="reflect", truncate=3)
    assert np.allclose(_smooth_field(field, 0.06), expected, atol=1e-6)


def test_elastic_transform_moves_pixels_and_makes_no_tones():
    clean = np.tile(np.linspace(50, 200, 64).astype(np.uint8)[None, None, :, None], (3, 64, 1, 3))
    made = corrupt(clean, "elastic_transform", 5, constants="imagenet")
    assert made.min() >= 49
    assert made.max() <= 200
    assert np.mean(np.abs(made.astype(int) - clean) > 2) > 0.3


def test_saturate_greys_or_colours():
    clean = np.tile(np.array([200, 100, 50], np.uint8), (1, 64, 64, 1))
    spread = [np.ptp(corrupt(clean, "saturate", severity)[0, 0, 0].astype(int)) for severity in (2, 1, 3)]
    assert spread[0] < spread[1] < 150 < spread[2]
