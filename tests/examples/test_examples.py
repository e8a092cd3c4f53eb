"""Each example is what it is shown for: a good method, one that ruins a class, one that is not what it says."""

from pathlib import Path

import numpy as np
import pytest
import torch
from _dummies.small import small_cnn

import evalsuite
from evalsuite import testing
from evalsuite.corruptions import corrupt
from evalsuite.quantizers.rtn import RoundToNearest
from evalsuite.registry import load_path
from evalsuite.running.task_data import normalise
from evalsuite.statistics.paired import mcnemar_exact
from evalsuite.tasks.digits import DigitsResNet

FOLDER = Path(__file__).parents[2] / "examples"
BiasCorrected, Fragile, IgnoresBits = (
    load_path(f"{FOLDER}/{name}") for name in ("good.py:BiasCorrected", "fragile.py:Fragile", "broken.py:IgnoresBits")
)
RUINED = 8
DRAWN = slice(0, 128)


@pytest.mark.parametrize("file", sorted(FOLDER.glob("*.py")), ids=lambda file: file.stem)
def test_each_is_a_file_of_forty_lines_that_the_readme_names(file):
    assert len(file.read_text().splitlines()) <= 40
    assert f"evalsuite audit examples/{file.name}:" in (FOLDER / "README.md").read_text()


@pytest.mark.parametrize("method", [BiasCorrected, Fragile])
def test_good_and_fragile_keep_the_contract_wholly(method):
    checks = testing.quantizer_checks(method(), model=small_cnn(), images=testing.examples.images(6))
    assert {check.outcome for check in checks} == {"pass"}


def test_the_broken_one_fails_where_its_numbers_would_be_wrong():
    failed = [check for check in testing.quantizer_checks(IgnoresBits()) if check.outcome == "fail"]
    spoilt = {"weights keep their bits", "activations keep their bits", "predictions are not full precision's"}
    assert {check.name.partition(": ")[2] for check in failed} == spoilt
    assert all(check.spoils_numbers and check.mend for check in failed)


@pytest.fixture(scope="module", params=[4, 8], ids=lambda bits: f"W{bits}A{bits}")
def measured(request):
    """Logits of 600 digits, of some methods at low contrast as well, and of the calibration images; and the labels."""
    task = DigitsResNet()
    data, network = task.data(None), task.model(None)
    images, pool = normalise(data.test_images, data), normalise(data.pool_images[DRAWN], data)
    networks = {"full precision": network} | {
        name: evalsuite.quantize(network, pool, method=method, weight_bits=request.param, activation_bits=request.param)
        for name, method in {"rtn": RoundToNearest(range="mse"), "good": BiasCorrected(), "fragile": Fragile()}.items()
    }
    dull = normalise(corrupt(data.test_images, "contrast", 5, seed=0), data)
    with torch.no_grad():
        logits = {name: (network(images).numpy(), network(pool).numpy()) for name, network in networks.items()}
        logits |= {f"{name} at low contrast": (networks[name](dull).numpy(), None) for name in ("rtn", "fragile")}
    return logits, data.test_labels


def wrong(measured, name):
    logits, labels = measured
    return logits[name][0].argmax(axis=1) != labels


def test_fragile_ruins_one_class_and_no_mean_error_says_so(measured):
    _, labels = measured
    drop = wrong(measured, "fragile").astype(float) - wrong(measured, "rtn")
    of_class = np.array([drop[labels == label].mean() for label in range(10)])
    assert of_class.argmax() == RUINED
    assert of_class[RUINED] > 0.4
    assert np.delete(of_class, RUINED).max() < 0.05
    assert drop.mean() < 0.06


def test_under_low_contrast_fragile_is_the_better_one_on_average(measured):
    assert wrong(measured, "fragile at low contrast").mean() < wrong(measured, "rtn at low contrast").mean()


def test_good_is_no_worse_than_rounding_to_nearest_and_its_mean_output_is_full_precision_s(measured):
    rtn, good = wrong(measured, "rtn"), wrong(measured, "good")
    tested = mcnemar_exact(int((good & ~rtn).sum()), int((rtn & ~good).sum()))
    assert good.sum() <= rtn.sum() or tested.p > 0.05
    mean = {name: measured[0][name][1].mean(axis=0) for name in ("full precision", "rtn", "good")}
    lost = {name: np.abs(mean[name] - mean["full precision"]).max() for name in ("rtn", "good")}
    assert lost["good"] < 1e-4 < lost["rtn"]
