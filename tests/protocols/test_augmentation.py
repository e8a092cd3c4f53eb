import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalsuite.corruptions import COMMON, HELD_OUT
from evalsuite.plugins import Pool
from protocols import augmentation
from protocols.augmentation import Augmentation, augmix, colour_jitter, cutmix, flip_crop, mixup

METHODS = ["flip_crop", "colour_jitter", "mixup", "cutmix", "augmix"]


def photographs(count, height=32, width=32, seed=0):
    """Smooth colourful images: noise enlarged."""
    noise = np.random.default_rng(seed).integers(0, 256, (count, 5, 5, 3), dtype=np.uint8)
    return np.stack([cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC) for image in noise])


def augmented(method, images, seed=0):
    pool = Pool(images, np.zeros(len(images), np.int64))
    return Augmentation(method).transform(pool, images, np.arange(len(images)), np.random.default_rng(seed))


@pytest.mark.parametrize("method", METHODS)
@given(count=st.integers(1, 5), height=st.integers(8, 40), width=st.integers(8, 40), seed=st.integers(0, 99))
def test_images_keep_their_form_and_the_originals_their_pixels(method, count, height, width, seed):
    images = photographs(count, height, width, seed)
    before = images.copy()
    made = augmented(method, images, seed)
    assert (made.shape, made.dtype) == (images.shape, np.uint8)
    np.testing.assert_array_equal(images, before)
    np.testing.assert_array_equal(augmented(method, images, seed), made)


@pytest.mark.parametrize("method", METHODS)
def test_nearly_every_image_changes_and_draws_differ(method):
    images = photographs(40)
    made = augmented(method, images)
    assert (made != images).any(axis=(1, 2, 3)).mean() > 0.9
    assert (made != augmented(method, images, seed=1)).any()


def test_none_leaves_all_as_it_is():
    images = photographs(3)
    assert augmented("none", images) is images
    assert [str(Augmentation("none")), str(Augmentation("mixup"))] == ["not augmented", "mixup"]


def test_flip_crop_shows_the_image_or_its_mirror_image_moved():
    images = np.maximum(photographs(60), 1)
    made = flip_crop(images, np.random.default_rng(0))
    found, shifts = {"straight": 0, "mirrored": 0}, set()
    for image, new in zip(images, made, strict=True):
        for name, seen in (("straight", new), ("mirrored", new[:, ::-1])):
            for dy in range(-4, 5):
                for dx in range(-4, 5):
                    inner = seen[4:28, 4:28]
                    if np.array_equal(inner, image[4 + dy : 28 + dy, 4 + dx : 28 + dx]):
                        found[name] += 1
                        shifts |= {dy, dx}
    assert sum(found.values()) == 60
    assert min(found.values()) > 15
    assert shifts == set(range(-4, 5))


def test_mixup_is_a_blend_of_two_images():
    images = photographs(6)
    for new in mixup(images, np.random.default_rng(0)):
        pairs = [(a, b) for a in range(6) for b in range(6) if a != b]
        residual = min(_line_residual(images[a], images[b], new) for a, b in pairs)
        assert residual < 0.6  # whole grey levels, and a share fitted to them


def _line_residual(a, b, new):
    a, b, new = (image.astype(float).ravel() for image in (a, b, new))
    share = ((new - b) @ (a - b)) / ((a - b) @ (a - b))
    return np.abs(new - (share * a + (1 - share) * b)).max()


def test_cutmix_puts_one_rectangle_of_one_other_image():
    images = np.arange(1, 9, dtype=np.uint8)[:, None, None, None] * np.ones((1, 32, 24, 3), np.uint8)
    area = []
    for k, new in enumerate(cutmix(np.repeat(images, 20, axis=0), np.random.default_rng(0))):
        foreign = (new != k // 20 + 1).any(axis=-1)
        rows, columns = foreign.any(axis=1), foreign.any(axis=0)
        np.testing.assert_array_equal(foreign, rows[:, None] & columns[None])
        assert len(np.unique(new[foreign])) <= 1
        area.append(foreign.mean())
    assert 0.2 < np.mean(area) < 0.5  # half of the image, less what sticks out


def test_colour_jitter_keeps_grey_images_grey():
    grey = np.repeat(photographs(20)[..., :1], 3, axis=-1)
    made = colour_jitter(grey, np.random.default_rng(0)).astype(int)
    assert np.ptp(made, axis=-1).max() <= 1
    assert np.abs(made - grey).mean() > 5


def test_augmix_knows_no_test_corruption():
    operations = {operation.__name__.strip("_") for operation in augmentation._OPERATIONS}
    assert len(operations) == 9
    forbidden = {*COMMON, *HELD_OUT, "sharpness", "colour", "saturation"}
    assert not {word for name in operations for word in name.split("_")} & forbidden


@pytest.mark.parametrize("operation", augmentation._OPERATIONS)
def test_operations_of_augmix_keep_form_and_are_mild(operation):
    images = photographs(5)
    for image in images:
        made = operation(image, np.random.default_rng(0))
        assert (made.shape, made.dtype) == (image.shape, np.uint8)
        assert np.abs(made.astype(int) - image).mean() < 60


def test_augmix_changes_less_than_noise_would():
    images = photographs(40)
    change = np.abs(augmix(images, np.random.default_rng(0)).astype(int) - images).mean()
    assert 1 < change < 40


def test_known_answers_of_operations():
    drawn = np.random.default_rng(0)
    ramp = np.repeat(np.linspace(50, 150, 11).astype(np.uint8)[:, None, None], 3, axis=2) * np.ones((1, 4, 1), np.uint8)
    stretched = augmentation._autocontrast(ramp, drawn)
    assert (stretched.min(), stretched.max()) == (0, 255)
    assert set(np.unique(augmentation._posterise(np.arange(256, dtype=np.uint8), drawn)) % 16) == {0}
    solarised = augmentation._solarise(np.arange(256, dtype=np.uint8)[:, None], drawn)
    assert solarised[0] == 0
    assert solarised[255] == 0
    flat = np.full((9, 9, 3), 80, np.uint8)
    np.testing.assert_array_equal(augmentation._autocontrast(flat, drawn), flat)
    dot = np.zeros((33, 33, 3), np.uint8)
    dot[16, 16] = 255
    for turn in (augmentation._rotate, augmentation._shear_x, augmentation._shear_y):
        assert turn(dot, drawn)[16, 16, 0] > 240  # about the centre
