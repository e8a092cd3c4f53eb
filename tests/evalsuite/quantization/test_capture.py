from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
import torch
from _dummies.models import random_images, tiny_resnet
from torch import nn

from evalsuite.errors import Refused
from evalsuite.quantization.capture import Scratch, outputs_of

X = random_images(70)


@pytest.mark.parametrize("limit", [0, 1e9])
def test_outputs_are_those_of_a_full_run_wherever_they_are_kept(limit):
    model = tiny_resnet()
    seen = []
    handle = model.layer2[0].conv2.register_forward_hook(lambda _, __, output: seen.append(output))
    with torch.no_grad():
        model(X)
    handle.remove()
    with Scratch(limit) as scratch:
        found = outputs_of(model, "layer2.0.conv2", X, scratch)
        torch.testing.assert_close(found, seen[0])
    assert not model.layer2[0].conv2._forward_hooks


def test_what_exceeds_the_limit_lies_in_files_that_vanish(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    like = torch.zeros(1)
    with Scratch(100) as scratch:
        scratch.empty((5, 5), like).fill_(1)  # 100 bytes: fits
        assert not [path for path in tmp_path.rglob("*") if path.is_file()]
        scratch.empty((2, 3), like).fill_(2)
        files = [path for path in tmp_path.rglob("*") if path.is_file()]
        assert [Path(path).stat().st_size for path in files] == [24]
    assert not list(tmp_path.iterdir())


def test_the_network_runs_no_further_than_needed():
    model = tiny_resnet()
    reached = []
    model.fc.register_forward_hook(lambda *_: reached.append(1))
    with Scratch(1e9) as scratch:
        outputs_of(model, "layer3", X, scratch)
    assert not reached


def test_images_that_take_another_path_are_refused():
    class Fork(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.large = nn.Conv2d(3, 2, 1)

        def forward(self, x):
            return self.large(x) if len(x) == 64 else x

    with Scratch(1e9) as scratch, pytest.raises(Refused, match=r"^large is not reached by every"):
        outputs_of(Fork(), "large", X, scratch)
