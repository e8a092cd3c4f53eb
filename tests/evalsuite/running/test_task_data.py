import numpy as np
import pytest
import torch
from _dummies.plugins import TASK, WRONG
from _dummies.studies import tiny

from evalsuite.errors import RequestError
from evalsuite.registry import configure
from evalsuite.running.calibration_sets import (
    _configured_data,
    calibration_images,
    calibration_pool,
    check_calibration,
    loaded_digest,
    select_images,
)
from evalsuite.running.task_data import data_digest, normalise, task_data, task_model
from evalsuite.running.workspace import Workspace
from evalsuite.study.settings import Calibration
from evalsuite.study.trials import expand

DIGITS = configure("tasks", "digits/resnet")


def steps(*settings):
    return Calibration(tuple(configure("protocols", name, options) for name, options in settings))


@pytest.fixture
def workspace(tmp_path):
    return Workspace(tmp_path / "run")


def test_steps_compose_size_long_tail_and_noise(workspace):
    calibration = steps(
        ("long_tail", {"size": 64, "ratio": 100.0}),
        ("noise", {"corruption": "fog", "severity": 3, "fraction": 0.25}),
    )
    assert str(calibration) == "64 images, long tail 100, fog 3 on 25 %"
    pool = calibration_pool(DIGITS, workspace, seed=4)
    chosen, images = select_images(calibration, pool), calibration_images(calibration, pool)
    assert sorted(np.bincount(pool.labels[chosen], minlength=10)) == [0, 0, 1, 1, 2, 3, 6, 9, 16, 26]
    assert (images != pool.images[chosen]).any(axis=(1, 2, 3)).sum() == 16
    np.testing.assert_array_equal(calibration_images(calibration, pool), images)


def test_a_fraction_contaminates_the_set_that_is_there_without_it(workspace):
    pool = calibration_pool(DIGITS, workspace, seed=0)
    size = ("calibration", {"size": 20})
    clean = calibration_images(steps(size), pool)
    changed = {}
    for fraction in (0.1, 0.5, 1.0):
        made = calibration_images(steps(size, ("noise", {"fraction": fraction})), pool)
        changed[fraction] = made
        assert (made != clean).any(axis=(1, 2, 3)).sum() == round(20 * fraction)
    for fraction in (0.1, 0.5):
        touched = (changed[fraction] != clean).any(axis=(1, 2, 3))
        np.testing.assert_array_equal(changed[fraction][touched], changed[1.0][touched])


@pytest.mark.parametrize("method", ["random", "high_entropy", "k_centre", "herding"])
def test_a_seed_is_a_draw(workspace, method):
    calibration = steps(("sampling", {"size": 20, "method": method}))
    first, again, other = (select_images(calibration, calibration_pool(DIGITS, workspace, s)) for s in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert set(first) != set(other)


def test_the_network_looks_at_the_pool_once_a_run(workspace):
    pools = [calibration_pool(DIGITS, workspace, seed) for seed in (0, 1)]
    outputs = pools[0].outputs()
    assert pools[1].outputs() is outputs
    assert len(list((workspace.folder / ".work" / "outputs").iterdir())) == 1
    data = task_data(DIGITS, None)
    with torch.no_grad():
        logits = task_model(DIGITS, None)(normalise(data.pool_images, data))
    np.testing.assert_allclose(outputs.logits, logits, atol=1e-4)
    assert outputs.features.shape == (320, 32)


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ([("calibration", {"size": 321})], "expected 1 to 320"),
        ([("sampling", {"size": 321, "method": "herding"})], "expected 1 to 320"),
        ([("balanced", {"size": 33, "classes": 1})], "class '.' has 32 of the 33 images wanted"),
        ([("long_tail", {"size": 256, "ratio": 100.0})], "has 32 of the 103 images wanted"),
        ([("calibration", {"size": 40}), ("balanced", {"size": 40})], "images, balanced: class"),
        ([("balanced", {"names": ["ten"]})], "unknown class 'ten'"),
        ([("calibration", {"size": 4}), ("noise", {"fraction": 0.1})], "10 % of 4 images is none"),
        ([("calibration", {"size": 31}), ("other_data_set", {"task": TASK})], "31 images of .* its pool has 30"),
        ([("calibration", {"size": 8}), ("other_data_set", {"task": "cifar10/resnet20"})], "no data folder given"),
    ],
)
def test_impossible_sets_are_refused_without_running_a_network(workspace, wanted, message):
    pool = calibration_pool(DIGITS, workspace, seed=0)
    with pytest.raises(RequestError, match=message):
        check_calibration(steps(*wanted), pool)
    assert not workspace.folder.exists()


def test_possible_sets_are_checked_without_running_a_network(workspace):
    wanted = [("sampling", {"size": 64, "method": "herding"}), ("balanced", {"size": 64})]
    check_calibration(steps(*wanted), calibration_pool(DIGITS, workspace, seed=0))
    assert not workspace.folder.exists()


def test_one_class_and_all_classes_are_different_settings():
    one, every = (configure("protocols", "balanced", {"classes": classes}) for classes in (1, 1.0))
    assert one != every
    assert one.build().classes == 1
    assert isinstance(every.build().classes, float)


def test_options_of_another_task_are_part_of_the_setting(workspace):
    setting = configure("protocols", "other_data_set", {"task": TASK, "options": {}, "fraction": 1})
    assert configure("protocols", "other_data_set", setting.values()) == setting
    calibration = Calibration((configure("protocols", "calibration", {"size": 10}), setting))
    images = calibration_images(calibration, calibration_pool(DIGITS, workspace, seed=0))
    known = {image.tobytes() for image in task_data(configure("tasks", TASK), None).pool_images}
    assert {image.tobytes() for image in images} <= known


def test_labels_of_another_integer_type_are_the_same_data():
    plain, small = (configure("tasks", WRONG, {"wrong": wrong}) for wrong in ("", "uint8 labels"))
    assert data_digest(plain, None) == data_digest(small, None)


PIXELS = """
from dataclasses import dataclass
import numpy as np
from _dummies.plugins import StripesTask

@dataclass(frozen=True)
class Pixels(StripesTask):
    file: str = ""

    def data(self, root):
        data = super().data(root)
        return type(data)(**vars(data) | {"pool_images": np.load(self.file)})
"""


def test_pictures_of_another_task_are_part_of_what_a_network_is(tmp_path):
    """A set of other pictures under the same name and options is another set."""
    code, file = tmp_path / "pixels.py", tmp_path / "pool.npy"
    code.write_text(PIXELS)
    pool = task_data(configure("tasks", TASK), None).pool_images
    calibration = steps(
        ("calibration", {"size": 4}), ("other_data_set", {"task": f"{code}:Pixels", "options": {"file": str(file)}})
    )
    found = []
    for images in (pool, pool, 255 - pool):
        np.save(file, images)
        _configured_data.cache_clear()
        chosen = tiny(calibration=[{"protocol": "calibration", "size": 4}])
        read = dict.fromkeys(chosen.calibrations, loaded_digest(calibration, None))
        trials = expand(chosen, dict.fromkeys(chosen.tasks, ""), read)
        found.append([(trial.quantization, trial.quantizer.bits is None) for trial in trials])
    assert found[0] == found[1]
    for (before, full), (after, _) in zip(found[0], found[2], strict=True):
        assert (before == after) == full
    assert loaded_digest(steps(("calibration", {"size": 4})), None) == ""
