import numpy as np
import pytest

from evalsuite.corruptions import corrupt
from evalsuite.corruptions.constants import SETS
from evalsuite.corruptions.draws import Draws
from evalsuite.corruptions.weather import ICE, _clouds, _ice, _ice_folder, _water
from evalsuite.errors import RequestError

BLACK = np.zeros((6, 64, 64, 3), np.uint8)


@pytest.mark.parametrize("size", [32, 256])
def test_clouds_fill_the_range_and_are_smooth(size):
    clouds = _clouds(Draws(np.arange(5), 0), size, 2.0)
    assert clouds.shape == (5, size, size)
    assert np.all(clouds.min(axis=(1, 2)) == 0)
    assert np.all(clouds.max(axis=(1, 2)) == 1)
    near = np.abs(np.diff(clouds, axis=1)).mean()
    far = np.abs(clouds - np.roll(clouds, size // 2, axis=1)).mean()
    assert near < far / 2


def test_a_cloud_grows_rougher_with_less_decay():
    roughness = [np.abs(np.diff(_clouds(Draws(np.arange(5), 0), 64, decay), axis=1)).mean() for decay in (3.0, 1.4)]
    assert roughness[0] < roughness[1]


def test_frost_lays_a_part_of_an_ice_picture_over_the_image():
    made = corrupt(BLACK, "frost", 1, constants="imagenet")
    weight = SETS["imagenet"].frost[0][1]
    pictures = [_ice(name, 64, 64, 1.1, True) for name in ICE]
    for image in made:
        corner = image[0, 0]
        found = False
        for picture in pictures:
            rows, columns = np.nonzero(np.all(np.floor(np.float32(weight) * picture) == corner, axis=2))
            for top, left in zip(rows, columns, strict=True):
                cut = picture[top : top + 64, left : left + 64]
                if cut.shape == image.shape and np.array_equal(np.floor(np.float32(weight) * cut), image):
                    found = True
                    break
        assert found


def test_ice_is_never_smaller_than_the_image():
    for constants in SETS.values():
        picture = _ice(ICE[0], 900, 700, constants.frost_scale, constants.frost_cubic)
        assert picture.shape[0] > 900
        assert picture.shape[1] > 700


def test_missing_pictures_are_named(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(RequestError, match="expected the package imagecorruptions"):
        _ice_folder()


def test_snow_is_laid_on_twice_and_grey():
    made = corrupt(BLACK, "snow", 3, constants="cifar")
    assert np.array_equal(made, made[:, ::-1, ::-1])
    assert np.array_equal(made[..., 0], made[..., 2])


def test_brightness_keeps_the_hue():
    clean = np.tile(np.array([60, 30, 0], np.uint8), (1, 32, 32, 1))
    assert np.array_equal(corrupt(clean, "brightness", 5)[0, 0, 0], [136, 68, 0])


@pytest.mark.parametrize("severity", [1, 4])
def test_spatter_leaves_most_of_the_image_alone(severity):
    clean = np.full((8, 64, 64, 3), 100, np.uint8)
    made = corrupt(clean, "spatter", severity, constants="cifar")
    hit = np.any(made != clean, axis=3)
    assert 0 < hit.mean() < 0.5
    change = made[hit].astype(int) - 100
    assert np.all(change >= 0) if severity == 1 else np.all(change <= 0)


def test_a_dry_lens_reflects_nothing():
    assert not _water(np.zeros((32, 32), np.float32)).any()
