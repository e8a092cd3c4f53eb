import cv2
import numpy as np
import pytest
from _dummies.plugins import TASK, StripesTask
from hypothesis import given, settings
from hypothesis import strategies as st

from evalsuite.errors import RequestError
from evalsuite.plugins import Pool
from protocols._synthetic import coloured_noise, fractals, gaussian_noise
from protocols.out_of_distribution import OtherDataSet, SyntheticImages, resize

IMAGES = np.full((20, 32, 32, 3), 7, np.uint8)
OTHER = StripesTask().data(None)
MEAN, STD = (0.3, 0.5, 0.6), (0.1, 0.12, 0.15)


def pool_of(load=lambda task, options: OTHER):
    return Pool(IMAGES, np.zeros(20, np.int64), mean=MEAN, std=STD, load=load)


def changed(step, images=IMAGES, seed=0):
    made = step.transform(pool_of(), images, np.arange(len(images)), np.random.default_rng(seed))
    assert (made.shape, made.dtype) == (images.shape, np.uint8)
    assert (images == 7).all()
    return made[(made != images).any(axis=(1, 2, 3))]


@pytest.mark.parametrize(
    "step",
    [OtherDataSet(TASK), *(SyntheticImages(kind) for kind in ("fractals", "coloured_noise", "gaussian_noise"))],
)
@settings(max_examples=25)
@given(fraction=st.floats(0.05, 1), seed=st.integers(0, 9))
def test_the_fraction_is_replaced_and_the_rest_untouched(step, fraction, seed):
    part = type(step)(*list(vars(step).values())[:-1], fraction)
    assert len(changed(part, seed=seed)) == round(20 * fraction)
    kept = part.select(pool_of(), np.arange(20), np.random.default_rng(0))
    assert np.array_equal(kept, np.arange(20))


def test_other_images_come_from_the_other_pool_each_once():
    found = changed(OtherDataSet(TASK)).reshape(20, -1)
    known = {image.tobytes() for image in OTHER.pool_images}
    drawn = [image.tobytes() for image in found]
    assert set(drawn) <= known
    assert len(set(drawn)) == 20
    assert [i.tobytes() for i in changed(OtherDataSet(TASK), seed=1).reshape(20, -1)] != drawn


def test_too_few_other_images_are_refused_before_a_run():
    with pytest.raises(RequestError, match=r"^31 images of .*StripesTask: its pool has 30; expected a smaller"):
        OtherDataSet(TASK).select(pool_of(), np.arange(31), np.random.default_rng(0))


def test_data_that_are_missing_are_refused_before_a_run():
    def load(task, options):
        raise RequestError(f"no file for {task}")

    with pytest.raises(RequestError, match="no file for"):
        OtherDataSet(TASK).select(pool_of(load), np.arange(20), np.random.default_rng(0))
    with pytest.raises(RequestError, match="cannot load"):
        OtherDataSet(TASK).select(Pool(IMAGES, np.zeros(20)), np.arange(20), np.random.default_rng(0))


def test_unknown_tasks_options_and_impossible_fractions_are_refused():
    with pytest.raises(RequestError, match="unknown task"):
        OtherDataSet("digits/resnot")
    with pytest.raises(RequestError, match="unknown option"):
        OtherDataSet("digits/resnet", {"size": 3})
    for step in (OtherDataSet, SyntheticImages):
        with pytest.raises(RequestError, match="expected more than 0"):
            step(fraction=0.0)
    with pytest.raises(RequestError, match="1 % of 20 images is none"):
        SyntheticImages(fraction=0.01).select(pool_of(), np.arange(20), np.random.default_rng(0))


@pytest.mark.parametrize(("size", "method"), [(12, cv2.INTER_AREA), (48, cv2.INTER_LINEAR)])
def test_resizing_is_opencv_s(size, method):
    made = resize(OTHER.pool_images[:3], size, size)
    expected = cv2.resize(OTHER.pool_images[2], (size, size), interpolation=method)
    np.testing.assert_array_equal(made[2], expected)
    np.testing.assert_array_equal(resize(OTHER.pool_images, 32, 32), OTHER.pool_images)


def test_gaussian_noise_has_the_moments_asked_for_and_no_structure():
    noise = gaussian_noise((40, 32, 32), MEAN, STD, np.random.default_rng(0)) / 255
    np.testing.assert_allclose(noise.mean(axis=(0, 1, 2)), MEAN, atol=0.01)
    np.testing.assert_allclose(noise.std(axis=(0, 1, 2)), STD, atol=0.01)
    centred = noise - noise.mean(axis=(0, 1, 2))
    assert abs(np.corrcoef(centred[:, :, 1:].ravel(), centred[:, :, :-1].ravel())[0, 1]) < 0.02


def test_coloured_noise_falls_off_with_frequency():
    noise = coloured_noise((60, 64, 64), MEAN, STD, np.random.default_rng(0)) / 255.0
    np.testing.assert_allclose(noise.mean(axis=(0, 1, 2)), MEAN, atol=0.02)
    np.testing.assert_allclose(noise.std(axis=(0, 1, 2)), STD, atol=0.02)
    amplitude = np.abs(np.fft.fft2(noise[..., 1] - noise[..., 1].mean()))
    # Of one image the slope on a log-log scale is the exponent that was drawn, 0.5..2.
    f = np.arange(2, 20)
    slopes = np.array([np.polyfit(np.log(f), np.log(a[0, f] + a[f, 0]), 1)[0] for a in amplitude])
    assert -2.1 < np.mean(slopes) < -0.6
    assert slopes.std() > 0.2


def test_fractals_have_structure_and_differ():
    made = fractals((12, 48, 40), np.random.default_rng(3))
    assert made.shape == (12, 48, 40, 3)
    assert len({image.tobytes() for image in made}) == 12
    lit = made.astype(int) - made.min(axis=(1, 2), keepdims=True) > 0
    assert 0.01 < lit.any(axis=-1).mean() < 0.95
    again = fractals((12, 48, 40), np.random.default_rng(3))
    np.testing.assert_array_equal(made, again)


def test_names_for_people():
    assert str(OtherDataSet("digits/vit", fraction=0.25)) == "images of digits/vit on 25 %"
    assert str(SyntheticImages()) == "only fractals"
    assert str(SyntheticImages("gaussian_noise", 0.5)) == "gaussian_noise on 50 %"
