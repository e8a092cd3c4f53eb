"""What adapters say that a batch costs, by which work is planned, against what is counted."""

from __future__ import annotations

import pytest
import torch
from _dummies.models import random_images, tiny_resnet

import evalsuite
from evalsuite import registry
from evalsuite.optional_members import is_oracle, passes_of

# Options under which every pass is made that may be: no image is too unsure, each batch is an update.
ALL_PASSES = {
    "eata": {"margin": 1.0, "redundancy": 1.0},
    "sar": {"margin": 10.0},
    "cotta": {"threshold": 1.0, "augmentations": 3},
    "rotta": {"update_every": 8, "bank": 1},
    "foa": {"population": 5},
    "zoa": {"perturbations": 2},
}


@pytest.mark.filterwarnings("ignore::evalsuite.errors.AdaptationWarning")
@pytest.mark.parametrize("name", sorted(registry.names("adapters")))
def test_what_is_planned_is_what_is_counted(name):
    options = ALL_PASSES.get(name, {})
    adapter = registry.configure("adapters", name, options).build()
    model = evalsuite.adapt(tiny_resnet(), name, random_images(16, seed=1), **options)
    labels = torch.zeros(8, dtype=torch.long) if is_oracle(adapter) else None
    model(random_images(8, seed=2), labels)
    counted = model.costs["forwards"] + 2 * model.costs["backwards"]
    assert counted == passes_of(adapter)
