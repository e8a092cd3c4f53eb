"""The dummy task's network in the forms in which people hand networks in, and what a study says of them."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _dummies import plugins
from _dummies.studies import tiny
from torch import Tensor, nn

from evalsuite import store
from evalsuite.running import harness
from evalsuite.running.task_data import normalise
from evalsuite.targets import Target, target_of

DATA = plugins.StripesTask().data(None)
STREAM = {"protocol": "continual", "images": 24, "batch_size": 7, "severity": 1, "corruptions": ["clean", "contrast"]}


def stripes() -> nn.Module:
    """Return the dummy task's network, 3 x 32 x 32 in, 3 classes."""
    return plugins.StripesTask().model(None).eval()


def images(count: int = 12) -> Tensor:
    """Return (count, 3, 32, 32) normalised images of the pool."""
    return normalise(DATA.pool_images[:count], DATA)


def rounded(model: nn.Module, levels: int = 2) -> nn.Module:
    """Return a copy whose weights take few levels."""
    twin = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in twin.parameters():
            step = parameter.abs().max().clamp_min(1e-6) / levels
            parameter.copy_((parameter / step).round() * step)
    return twin


def measured(target: Target, folder: Path, bits: str = "W8A8", **changes: Any) -> store.Run:
    """Run a study of full precision and a target, without adaptation, in this process; return what was recorded."""
    quantizers = [
        {"method": "full_precision"},
        {"method": target.setting.name, "bits": bits, **target.setting.values()},
    ]
    study = tiny(**{"quantizer": quantizers, "adapter": [{"method": "none"}], "stream": [STREAM]} | changes)
    harness.run(study, folder, device="cpu", in_process=True)
    return store.load(folder)


def row_of(run: store.Run, target: Target) -> Any:
    """Return a target's only row."""
    rows = run.trials[run.trials["quantizer"] == target.setting.name]
    assert len(rows) == 1
    return rows.iloc[0]


def check_it_is_measured(text: str, folder: Path, network: nn.Module, bits: str = "W8A8") -> store.Run:
    """Assert that a study predicts of clean test images what a network predicts that is called directly."""
    target = target_of(text)
    run = measured(target, folder, bits)
    row = row_of(run, target)
    assert (row["status"], row["reason"]) == ("done", "")
    records = run.records_of(row["trial"]).to_pandas()
    clean = records[records["severity"] == 0]
    with torch.no_grad():
        logits = network(normalise(DATA.test_images[clean["image"].to_numpy()], DATA))
    assert len(clean) == 24
    assert np.array_equal(clean["prediction"], logits.argmax(1).numpy())
    confidence = logits.softmax(1).amax(1).numpy()
    np.testing.assert_allclose(clean["confidence"], confidence, rtol=1e-4)
    return run
