import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from evalsuite.corruptions import corrupt
from evalsuite.corruptions.blur import _one_pass, enlarge, smooth, streak
from evalsuite.corruptions.draws import Draws


class Words:
    """Draws whose only numbers are given."""

    def __init__(self, words):
        self.numbers = words

    def __len__(self):
        return len(self.numbers)

    def words(self, count):
        return self.numbers[:, :count]


@settings(max_examples=40)
@given(st.integers(8, 20), st.integers(8, 20), st.integers(1, 4), st.integers(0, 10**6))
def test_one_pass_of_glass_blur_is_the_originals_loop(height, width, reach, seed):
    words = np.random.default_rng(seed).integers(0, 2**16, (2, height * width), dtype=np.uint16)
    source = _one_pass(Words(words), height, width, reach)
    side = width - 2 * reach
    for number in range(2):
        image = np.arange(height * width).reshape(height, width) + number * height * width
        for row in range(height - reach, reach, -1):
            for column in range(width - reach, reach, -1):
                word = int(words[number, (row - reach - 1) * side + column - reach - 1])
                down, across = divmod(word * (2 * reach) ** 2 >> 16, 2 * reach)
                image[row, column] = image[row + down - reach, column + across - reach]
        assert np.array_equal(source.reshape(2, height, width)[number], image)


def test_glass_moves_are_uniform():
    pixels = _one_pass(Draws(np.arange(50), 0), 64, 64, 1).reshape(50, 64, 64)
    moves = (pixels - np.arange(50 * 64 * 64).reshape(50, 64, 64))[:, 2:64, 2:64]
    share = [np.mean(moves == move) for move in (-65, -64, -1, 0)]
    assert sum(share) == 1
    assert share == pytest.approx([0.25] * 4, abs=0.01)


@pytest.mark.parametrize("sigma", [0.05, 0.4, 1.0, 2.3])
def test_smooth_agrees_with_scipy(sigma):
    image = np.random.default_rng(0).random((40, 50, 3), dtype=np.float32)
    expected = ndimage.gaussian_filter(image, sigma, mode="nearest", axes=(0, 1))
    assert np.allclose(smooth(image, sigma), expected, atol=1e-6)


@pytest.mark.parametrize("factor", [1.0, 1.06, 1.25, 1.5, 2.0, 3.0])
@pytest.mark.parametrize("centred", [False, True])
def test_enlarge_agrees_with_scipy(factor, centred):
    image = np.random.default_rng(0).random((32, 48), dtype=np.float32)
    kept = [int(np.ceil(size / factor)) for size in image.shape]
    top, left = ((size - part) // 2 for size, part in zip(image.shape, kept, strict=True))
    large = ndimage.zoom(image[top : top + kept[0], left : left + kept[1]], factor, order=1)
    cut = [(big - size) // 2 if centred else 0 for big, size in zip(large.shape, image.shape, strict=True)]
    expected = large[cut[0] : cut[0] + 32, cut[1] : cut[1] + 48]
    assert np.allclose(enlarge(image, factor, centred), expected, atol=1e-5)


def test_streak_of_a_point_runs_in_its_direction():
    point = np.zeros((41, 41), np.float32)
    point[20, 20] = 1
    for angle, (row, column) in {0.0: (0, 1), 90.0: (1, 0), -45.0: (-1, 1)}.items():
        smeared = streak(point, 5, 2.0, angle)
        assert smeared.sum() == pytest.approx(1, abs=1e-5)
        assert smeared[20, 20] > 0.1
        along = smeared[20 + 3 * row, 20 + 3 * column], smeared[20 - 3 * row, 20 - 3 * column]
        assert max(along) > 0
        assert min(along) == 0


def test_a_streak_longer_than_the_image_ends_at_its_border():
    made = streak(np.ones((32, 32), np.float32), 40, 40.0, 0.0)
    assert 0 < made.max() < 1


@pytest.mark.parametrize("name", ["defocus_blur", "glass_blur", "motion_blur", "zoom_blur", "gaussian_blur"])
def test_a_plain_image_stays_plain(name):
    for severity in range(1, 6):
        made = corrupt(np.full((1, 64, 64, 3), 97, np.uint8), name, severity, constants="cifar")
        assert set(np.unique(made)) <= {96, 97}
