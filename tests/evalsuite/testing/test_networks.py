"""Networks that were handed in: each wrong one fails the check that is there for it."""

import pytest
from _dummies import plugins
from _dummies.networks import images, stripes

from evalsuite.conformance import Asked, conformance
from evalsuite.registry import configure
from evalsuite.targets import target_of
from evalsuite.testing import network_checks

FILE = """
import torch
from _dummies.networks import rounded, stripes

network = rounded(stripes())


def right(images):
    return network(images)


def draws(images):
    return network(images) + torch.randn(len(images), 3)


def moves(images):
    network[1].bias.data += 0.1
    return network(images)


def seeds(images):
    torch.manual_seed(7)
    return network(images)


def writes(images):
    images *= 0.5
    return network(images)


def batch(images):
    return network(images - images.nanmean())


def ranges(images):
    return network(images - images.mean())


def alone(images):
    return network(images)[:, :2]

"""
EXPECTED = {
    "right": set(),
    "draws": {
        "the same images give the same logits",
        "reading it again gives the same",
        "the process is left as it was",
    },
    "moves": {"the same images give the same logits"},
    "seeds": {"the process is left as it was"},
    "writes": {"the same images give the same logits"},
    "batch": {"one image alone gives what it gives among others"},
    "ranges": {
        "one image alone gives what it gives among others",
        "NaN in an image does not change the others",
    },
    "alone": {"the network runs"},
}


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(FILE)
    return path


@pytest.mark.parametrize("name", EXPECTED)
def test_a_wrong_network_fails_the_check_that_is_there_for_it(file, name):
    checks = network_checks(target_of(f"{file}:{name}").setting.build(), model=stripes(), images=images())
    failed = {check.name for check in checks if check.outcome == "fail"}
    assert EXPECTED[name] <= failed
    assert EXPECTED[name] or not failed
    assert all(check.mend for check in checks if check.outcome == "fail")


def test_it_is_looked_at_in_a_process_of_its_own(file):
    task = configure("tasks", plugins.TASK)
    checks = conformance(Asked(target_of(f"{file}:right").setting, task))
    assert [check for check in checks if check.outcome != "pass"] == []
