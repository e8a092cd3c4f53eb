import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evalsuite.corruptions import COMMON, corrupt
from evalsuite.errors import RequestError
from evalsuite.plugins import Pool
from protocols.noise import CalibrationNoise

IMAGES = np.random.default_rng(0).integers(40, 216, (12, 32, 32, 3), dtype=np.uint8)
POOL = Pool(IMAGES, np.zeros(12, np.int64))


def corrupted(step, rows, seed=0, draw=1):
    pool = Pool(IMAGES, POOL.labels, seed=seed)
    return step.transform(pool, IMAGES[rows], np.asarray(rows), np.random.default_rng(draw))


@settings(max_examples=20)
@given(st.floats(0.05, 1), st.integers(1, 12))
def test_the_fraction_is_contaminated_and_the_rest_untouched(fraction, count):
    step, wanted = CalibrationNoise("gaussian_noise", 5, fraction), round(fraction * count)
    if wanted == 0:
        with pytest.raises(RequestError, match=f"of {count} images is none"):
            step.select(POOL, np.arange(count), np.random.default_rng(0))
    else:
        made = corrupted(step, np.arange(count))
        assert (made != IMAGES[:count]).any(axis=(1, 2, 3)).sum() == wanted


@pytest.mark.parametrize("corruption", ["gaussian_noise", "fog", "glass_blur"])
def test_a_corrupted_image_depends_on_seed_index_corruption_and_severity_alone(corruption):
    whole = corrupted(CalibrationNoise(corruption, 2), np.arange(12))
    # Another order, other images beside it, another fraction, another draw of the step's generator.
    rows = np.array([7, 3, 11, 0])
    some = corrupted(CalibrationNoise(corruption, 2, 0.5), rows, draw=5)
    changed = (some != IMAGES[rows]).any(axis=(1, 2, 3))
    assert changed.sum() == 2
    np.testing.assert_array_equal(some[changed], whole[rows[changed]])
    assert (corrupted(CalibrationNoise(corruption, 2), np.arange(12), seed=1) != whole).any(axis=(1, 2, 3)).all()


def test_noise_is_not_that_of_the_test_images():
    made = corrupted(CalibrationNoise("gaussian_noise", 3), np.arange(12)).astype(int) - IMAGES
    test = corrupt(IMAGES, "gaussian_noise", 3, indices=np.arange(12)).astype(int) - IMAGES
    assert abs(np.corrcoef(made.ravel(), test.ravel())[0, 1]) < 0.05


def test_all_images_are_kept():
    kept = CalibrationNoise().select(POOL, np.arange(3), np.random.default_rng(0))
    assert kept.tolist() == [0, 1, 2]
    assert str(CalibrationNoise("fog", 2, 0.25)) == "fog 2 on 25 %"
    assert str(CalibrationNoise("fog", 2)) == "fog 2"


@pytest.mark.parametrize("severity", range(1, 6))
def test_every_corruption_at_every_severity_can_be_asked_for(severity):
    assert {str(CalibrationNoise(name, severity)) for name in COMMON} == {f"{name} {severity}" for name in COMMON}


@pytest.mark.parametrize("options", [{"corruption": "mist"}, {"severity": 0}, {"fraction": 0.0}, {"fraction": 1.5}])
def test_impossible_noise_is_refused(options):
    with pytest.raises(RequestError):
        CalibrationNoise(**options)
