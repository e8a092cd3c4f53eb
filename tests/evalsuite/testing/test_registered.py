"""Everything that is registered keeps the contract that third parties are checked by."""

import pytest
import torch
from _dummies.small import small_cnn

from evalsuite import registry, testing
from evalsuite.errors import RequestError
from evalsuite.optional_members import is_stream
from evalsuite.testing import examples

HASTE = {"candidates": 5, "steps": 10, "rows": 16, "augmentations": 2, "population": 4, "range_images": 8}
ELSEWHERE = "its tensors are where the network is"
NEEDS_A_FILE = ("replay",)


def quick(kind, name):
    known = registry.option_names(kind, name)
    chosen = HASTE | {option: 2 for option in known if option.endswith("iterations")}
    usual = registry.defaults(kind, name)
    return registry.configure(
        kind, name, {o: v for o, v in chosen.items() if o in known and isinstance(usual.get(o), int)}
    ).build()


def untried_elsewhere(checks):
    """Return on which networks, of those that a plugin takes, another device could not be pretended to it."""
    return [check for check in checks if check.name.endswith(ELSEWHERE) and "cannot be pretended" in check.message]


@pytest.mark.parametrize(
    "name", [name for name in registry.names("quantizers") if not registry.required_options("quantizers", name)]
)
def test_quantizers(name):
    quantizer = quick("quantizers", name)
    checks = testing.quantizer_checks(quantizer, model=small_cnn(), images=examples.images(6))
    if all(check.outcome == "not applicable" for check in checks[1:]):
        checks = testing.quantizer_checks(quantizer, model=examples.transformer(), images=examples.images(6))
    assert not [check for check in checks if check.outcome == "fail"]
    assert not untried_elsewhere(checks)


@pytest.mark.parametrize("name", registry.names("adapters"))
def test_adapters(name):
    checks = testing.adapter_checks(quick("adapters", name))
    assert not [check for check in checks if check.outcome == "fail"]
    assert any(check.outcome == "pass" for check in checks[1:])
    assert not untried_elsewhere(checks)


@pytest.mark.parametrize("name", [name for name in registry.names("protocols") if name not in NEEDS_A_FILE])
def test_protocols(name):
    stream = is_stream(registry.load("protocols", name))
    (testing.check_stream if stream else testing.check_step)(name)


@pytest.mark.parametrize("name", registry.names("tasks"))
def test_tasks(name):
    if registry.required_options("tasks", name):
        pytest.skip("has options that must be given")
    task = registry.load("tasks", name)()
    try:
        task.data(None)
    except RequestError as error:
        pytest.skip(str(error))
    testing.check_task(task)


def test_the_networks_tell_classes_apart():
    images = examples.images(40)
    for build in examples.NETWORKS.values():
        with torch.no_grad():
            predicted = build()(images).argmax(1)
        assert (predicted == torch.arange(40) % examples.CLASSES).float().mean() > 0.7
        assert torch.equal(build()(images), build()(images))
