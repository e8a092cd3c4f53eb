import numpy as np
import pytest
from scipy import stats

from evalsuite.corruptions.draws import Draws


def test_an_images_numbers_depend_on_its_index_the_keys_and_the_draw():
    one, other = Draws(np.array([3, 9]), 0, "a"), Draws(np.array([9]), 0, "a")
    for name, arguments in (("uniform", (2, 5)), ("normal", (7,)), ("words", (13,))):
        both, alone = getattr(one, name)(*arguments), getattr(other, name)(*arguments)
        assert np.array_equal(both[1], alone[0])
        assert not np.array_equal(both[0], both[1])
        assert not np.array_equal(alone, getattr(Draws(np.array([9]), 0, "b"), name)(*arguments))
    assert not np.array_equal(one.uniform(4), one.uniform(4))


def test_keys_are_told_apart():
    assert not np.array_equal(Draws(np.array([0]), "ab", "c").words(8), Draws(np.array([0]), "a", "bc").words(8))


@pytest.mark.parametrize(("name", "distribution"), [("uniform", "uniform"), ("normal", "norm")])
def test_distributions(name, distribution):
    values = getattr(Draws(np.arange(200), 1), name)(50)
    assert values.dtype == np.float32
    assert values.shape == (200, 50)
    assert stats.kstest(values.ravel(), distribution).pvalue > 1e-3
    assert stats.kstest(values[:, 0], distribution).pvalue > 1e-3, "the images' first numbers"


def test_words_and_limits():
    words = Draws(np.arange(64), 2).words(1001)
    assert words.shape == (64, 1001)
    assert words.dtype == np.uint16
    assert words.mean() == pytest.approx(32767.5, rel=0.01)
    limits = np.tile([1, 5, 1000], (5000, 1))
    numbers = Draws(np.arange(5000), 3).below(limits)
    assert np.all((numbers >= 0) & (numbers < limits))
    assert set(numbers[:, 1]) == {0, 1, 2, 3, 4}
    assert numbers[:, 2].mean() == pytest.approx(499.5, rel=0.03)


def test_indices_may_be_any_integers():
    numbers = Draws(np.array([-1, 0, 2**62]), 0).words(4)
    assert len({row.tobytes() for row in numbers}) == 3
