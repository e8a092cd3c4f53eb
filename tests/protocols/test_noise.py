import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evalsuite.errors import RequestError
from evalsuite.plugins import Pool
from protocols.noise import CalibrationNoise


@settings(deadline=None, max_examples=20)
@given(st.floats(0.01, 1), st.integers(1, 12))
def test_the_fraction_is_contaminated_and_the_rest_untouched(fraction, count):
    images = np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    noise = CalibrationNoise("gaussian_noise", 5, fraction)
    made = noise.transform(images, np.arange(count), np.random.default_rng(1))
    changed = (made != images).any(axis=(1, 2, 3)).sum()
    assert changed == max(1, round(fraction * count))


def test_all_images_are_kept():
    pool = Pool(np.zeros((3, 32, 32, 3), np.uint8), np.zeros(3, np.int64), 1)
    kept = CalibrationNoise().select(pool, np.arange(3), np.random.default_rng(0))
    assert kept.tolist() == [0, 1, 2]
    assert str(CalibrationNoise("fog", 2, 0.25)) == "fog 2 on 25 %"
    assert str(CalibrationNoise("fog", 2)) == "fog 2"


@pytest.mark.parametrize("options", [{"corruption": "mist"}, {"severity": 0}, {"fraction": 0.0}, {"fraction": 1.5}])
def test_impossible_noise_is_refused(options):
    with pytest.raises(RequestError):
        CalibrationNoise(**options)
