from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from _dummies.models import random_images, tiny_resnet
from torch import nn

from evalsuite import quantize, registry
from evalsuite.errors import RequestError
from evalsuite.quantization.plain_state import lost_attributes, plain_attributes
from evalsuite.quantization.saving import load, save
from evalsuite.quantizers.rtn import RoundToNearest

X = random_images(16)


class Gain(nn.Module):
    """Multiplies by what calibration has learnt and keeps in a plain attribute."""

    def __init__(self, inner: nn.Module, where: str) -> None:
        super().__init__()
        self.inner, self.where = inner, where
        self.gain = torch.ones(())
        self.facts = {"scales": [1.0]}
        self.register_buffer("hidden", torch.ones(()), persistent=False)
        self.last = None

    def learn(self) -> None:
        if self.where == "tensor":
            self.gain = self.gain * 3
        elif self.where == "container":
            self.facts = {"scales": [3.0]}
        elif self.where == "buffer":
            self.hidden.fill_(3)

    def forward(self, x):
        self.last = self.inner(x)  # kept of each pass, learnt by none
        return self.last * self.gain * self.facts["scales"][0] * self.hidden


@dataclass(frozen=True)
class Learns(RoundToNearest):
    """Rounds to nearest, and learns a gain."""

    where: str = "tensor"

    def insert(self, model, bits, example):
        return Gain(super().insert(model, bits, example), self.where)

    def calibrate(self, model, images, generator):
        super().calibrate(model.inner, images, generator)
        model.learn()


@pytest.mark.parametrize(
    ("where", "name"), [("tensor", "gain"), ("container", "facts"), ("buffer", "hidden"), ("nowhere", None)]
)
def test_what_is_learnt_outside_of_the_state_is_not_saved_in_silence(where, name, tmp_path):
    quantized = quantize(tiny_resnet(), X, method=Learns(where=where))
    file = tmp_path / "model.safetensors"
    if name is None:
        save(quantized, file)
        assert file.is_file()
    else:
        with pytest.raises(RequestError, match=f"^{name} would be lost in a file: expected all that is learnt"):
            save(quantized, file)
        assert not file.exists()


@pytest.mark.parametrize(
    "name",
    [
        name
        for name in registry.names("quantizers")
        if name not in ("none", "onnxruntime") and not registry.required_options("quantizers", name)
    ],
)
def test_no_method_of_ours_keeps_anything_outside_of_the_state(name, tmp_path):
    options = registry.option_names("quantizers", name)
    few = {"iterations": 1, "correction_steps": 1, "rows": 16, "candidates": 4}
    model = tiny_resnet()
    quantized = quantize(model, X, method=name, **{key: few[key] for key in few if key in options})
    if not hasattr(quantized, "recipe"):
        return
    save(quantized, tmp_path / "model.safetensors")
    restored = load(tmp_path / "model.safetensors", model, X[:1])
    with torch.no_grad():
        assert torch.equal(quantized(X), restored(X))


def test_an_attribute_that_a_pass_sets_anew_is_no_loss():
    model = Gain(tiny_resnet(), "nowhere").eval()
    before = plain_attributes(model)
    with torch.no_grad():
        model(X)
    assert lost_attributes(model, before, X) == []
    model.gain = torch.full((), 2.0)
    assert lost_attributes(model, before, X) == ["last", "gain"] or "gain" in lost_attributes(model, before, X)
