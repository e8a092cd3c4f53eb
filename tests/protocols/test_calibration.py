import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalsuite.errors import RequestError
from evalsuite.plugins import Pool
from protocols.calibration import CalibrationSize

POOL = Pool(np.zeros((50, 32, 32, 3), np.uint8), np.arange(50) % 5)


@given(st.integers(1, 50), st.integers(0, 9))
def test_draws_so_many_different_images(size, seed):
    drawn = CalibrationSize(size).select(POOL, np.arange(50), np.random.default_rng(seed))
    assert len(np.unique(drawn)) == size
    assert np.isin(drawn, np.arange(50)).all()


@pytest.mark.parametrize("size", [0, 51])
def test_more_than_there_are_is_refused(size):
    with pytest.raises(RequestError, match="expected 1 to 50"):
        CalibrationSize(size).select(POOL, np.arange(50), np.random.default_rng(0))


def test_a_name_for_people():
    assert str(CalibrationSize(64)) == "64 images"
