from __future__ import annotations

import pytest
import torch
from _dummies.models import random_images, tiny_resnet

from evalsuite.bits import BitPolicy
from evalsuite.errors import RequestError
from evalsuite.quantizers.brecq import BRECQ
from evalsuite.quantizers.qdrop import QDrop
from evalsuite.quantizers.ttaq import TTAQ
from evalsuite.randomness import torch_generator

X = random_images(32)
FAST = {"iterations": 3, "learning_rate": 0.04, "batch_size": 16, "steps": 10, "bins": 128}


def state(plugin, seed=0):
    twin = plugin.insert(tiny_resnet(), BitPolicy(2, 3), X[:1])
    plugin.calibrate(twin, X, torch_generator(seed))
    return twin.state_dict()


def same(a, b) -> bool:
    return all(torch.equal(value, b[name]) for name, value in a.items())


@pytest.mark.parametrize(
    ("options", "base"),
    [
        ({}, QDrop(**FAST)),
        ({"drop": 0.25, "step_rate": 1e-3}, QDrop(**FAST, drop=0.25, step_rate=1e-3)),
        ({"base": "brecq", "step_iterations": 2}, BRECQ(**FAST, step_iterations=2)),
    ],
)
def test_at_strength_0_it_is_the_base_method_bit_for_bit(options, base):
    assert same(state(TTAQ(**FAST, pem=0.0, pcr=0.0, **options)), state(base))


@pytest.mark.parametrize("base", ["qdrop", "brecq"])
def test_each_part_alone_changes_the_result_and_the_seed_decides(base):
    common = {**FAST, "base": base, "step_iterations": 2}
    nothing, pem, pcr, both, again = (
        state(TTAQ(**common, pem=pem, pcr=pcr)) for pem, pcr in ((0, 0), (1, 0), (0, 1), (1, 1), (1, 1))
    )
    assert same(both, again)
    assert not any(same(nothing, other) for other in (pem, pcr, both))
    assert not same(pem, both)
    assert not same(both, state(TTAQ(**common, pem=1, pcr=1), seed=1))


@pytest.mark.parametrize("wrong", [{"pem": -1.0}, {"pcr": -1.0}, {"perturbation": -1.0}, {"step_rate": -1.0}])
def test_impossible_options_are_named(wrong):
    with pytest.raises(RequestError, match=f"{next(iter(wrong))} = .*expected"):
        TTAQ(**wrong)


def test_the_base_method_s_own_checks_hold():
    with pytest.raises(RequestError, match="drop = 2"):
        TTAQ(drop=2.0)
