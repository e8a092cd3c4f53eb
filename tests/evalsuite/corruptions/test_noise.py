import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from evalsuite.corruptions import corrupt
from evalsuite.corruptions.noise import NAMES, transition

SETTINGS = [(constants, name) for constants in ("cifar", "imagenet") for name in NAMES]


@pytest.mark.parametrize(("constants", "name"), SETTINGS)
def test_rows_are_distributions(constants, name):
    for severity in range(1, 6):
        matrix = transition(constants, name, severity)
        assert matrix.shape == (256, 256)
        assert matrix.min() >= 0
        assert np.allclose(matrix.sum(axis=1), 1, atol=1e-12)


@pytest.mark.parametrize(("constants", "name"), SETTINGS)
@pytest.mark.parametrize("grey", [0, 1, 100, 254, 255])
def test_sampled_levels_follow_the_matrix(constants, name, grey):
    clean = np.full((4, 128, 128, 3), grey, np.uint8)
    made = corrupt(clean, name, 3, constants=constants)
    expected = transition(constants, name, 3)[grey] * made.size
    counts = np.bincount(made.ravel(), minlength=256)
    likely = expected > 20
    assert counts[~likely].sum() <= expected[~likely].sum() + 6 * np.sqrt(expected[~likely].sum() + 10)
    if likely.sum() > 1:
        scaled = expected[likely] * counts[likely].sum() / expected[likely].sum()
        assert stats.chisquare(counts[likely], scaled).pvalue > 1e-4


def test_matrix_of_the_direct_computation():
    """Against drawing from numpy's own distributions and cutting to whole levels, as the originals do."""
    generator = np.random.default_rng(0)
    tone, size = 90 / 255, 400_000
    direct = {
        "gaussian_noise": tone + generator.normal(0, 0.08, size),
        "speckle_noise": tone + tone * generator.normal(0, 0.12, size),
        "shot_noise": generator.poisson(tone * 100, size) / 100,
    }
    for name, values in direct.items():
        counts = np.bincount(np.uint8(np.clip(values, 0, 1) * 255), minlength=256)
        expected = transition("cifar", name, 3)[90] * size
        likely = expected > 20
        assert np.abs(counts - expected)[likely].max() < 5 * np.sqrt(expected.max())
        assert counts[~likely].sum() < expected[~likely].sum() + 100


@given(st.integers(1, 5), st.integers(0, 255))
def test_impulses_are_black_or_white_or_nothing(severity, grey):
    row = transition("imagenet", "impulse_noise", severity)[grey]
    assert set(np.flatnonzero(row)) <= {0, 255, grey}
    assert row[0] == pytest.approx(row[255], abs=1 if grey in (0, 255) else 1e-12)


def test_neighbours_and_channels_are_independent():
    made = corrupt(np.full((1, 256, 256, 3), 128, np.uint8), "gaussian_noise", 3)[0].astype(float)
    for a, b in ((made[1:], made[:-1]), (made[:, 1:], made[:, :-1]), (made[..., 0], made[..., 1])):
        assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 0.02
