"""A device that every machine has: it computes what the CPU does, and refuses what a GPU would."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from _dummies.small import small_cnn
from torch import nn

from evalsuite import testing
from evalsuite.adaptation.adapted_model import AdaptedModel
from evalsuite.adapters.tent import Tent
from evalsuite.adapters.zoa import ZOA
from evalsuite.bits import BitPolicy
from evalsuite.quantizers.qdrop import QDrop
from evalsuite.quantizers.rtn import RoundToNearest
from evalsuite.randomness import torch_generator
from evalsuite.testing import examples
from evalsuite.testing._elsewhere import DEVICE, WrongDevice, elsewhere, here, wrong_device


def adapted(adapter, device):
    """Return the logits of three batches, with a reset between, and what they cost."""
    batches = (examples.images(18, 5) * 1.5 + 0.5).split(6)
    model = AdaptedModel(adapter, examples.cnn().to(device), examples.images(8).to(device), torch_generator(0))
    logits = []
    for batch in batches:
        logits.append(here(model(batch.to(device))))
        model.reset()
    costs = model.totals
    return torch.stack(logits), [costs[name] for name in ("forwards", "backwards", "adapted_parameters", "state_bytes")]


@pytest.mark.parametrize("adapter", [Tent(), ZOA(min_batch=6)], ids=lambda adapter: type(adapter).__name__)
def test_an_adapter_gives_the_same_elsewhere_at_the_same_cost(adapter):
    expected, costs = adapted(adapter, "cpu")
    with elsewhere() as device:
        logits, costs_there = adapted(adapter, device)
    torch.testing.assert_close(logits, expected)
    assert costs_there == costs


@pytest.mark.parametrize(
    "quantizer", [RoundToNearest(steps=10), QDrop(steps=10, iterations=2)], ids=lambda q: str(q)[:5]
)
def test_a_quantizer_gives_the_same_elsewhere(quantizer):
    images, logits = examples.images(6), []
    for device in ("cpu", DEVICE):
        twin = quantizer.insert(small_cnn(), BitPolicy(4, 4), images[:1])
        with elsewhere(products_here=device == "cpu"):
            quantizer.calibrate(twin.to(device), images.to(device), torch_generator(0))
            with torch.no_grad():
                logits.append(here(twin(images.to(device))))
    torch.testing.assert_close(logits[1], logits[0])


TAKEN = {
    "a number": lambda x: x * torch.tensor(2.0),
    "indices on the CPU": lambda x: x[torch.tensor([1, 0])],
    "a copy from the CPU": lambda x: torch.empty_like(x).copy_(torch.ones(2, 3)),
    "its own tensors": lambda x: torch.full((3,), 2.0, device=x.device) + x.new_tensor([1, 2, 3]),
    "a draw that is moved": lambda x: x + torch.rand(3, generator=torch.Generator()).to(x),
    "a loop over values": lambda x: x * float(x.sum()) if bool((x > 0).any()) and x.tolist() else None,
}
REFUSED = {
    "a vector of the CPU": lambda x: x + torch.ones(3),
    "a vector of the CPU in a list": lambda x: torch.cat([x, torch.ones(1, 3)]),
    "a number of the CPU where numbers are not taken": lambda x: torch.stack([x.sum(), torch.tensor(0.0)]),
    "into a tensor of the CPU": lambda x: torch.zeros(2, 3).add_(x),
    "a tensor of the CPU by indices elsewhere": lambda x: torch.ones(4)[(x > 0).nonzero()],
    "a draw on the device": lambda x: torch.rand(3, device=x.device, generator=torch.Generator()),
    "a draw into the device's": lambda x: x.normal_(generator=torch.Generator()),
    "an array": lambda x: np.asarray(x),
    "a product on the CPU": lambda x: (x.cpu() @ torch.ones(3, 1)).to(x.device),
    "a module that was not moved": lambda x: nn.Linear(3, 2)(x),
}


@pytest.mark.parametrize("what", TAKEN)
def test_what_a_gpu_takes(what):
    x = torch.arange(6.0).reshape(2, 3)
    with elsewhere() as device:
        result = TAKEN[what](x.to(device))
        assert result.device.type == device
    torch.manual_seed(0)
    if what != "a draw that is moved":
        torch.testing.assert_close(here(result), TAKEN[what](x))


@pytest.mark.parametrize("what", REFUSED)
def test_what_a_gpu_refuses_and_what_is_left_to_the_cpu(what):
    with elsewhere() as device, pytest.raises(WrongDevice):
        REFUSED[what](torch.arange(6.0).reshape(2, 3).to(device))


def test_the_device_that_led_to_an_error_is_found_behind_others():
    first, second = WrongDevice("there"), ValueError("something else")
    second.__cause__ = first
    assert wrong_device(second) is first
    assert wrong_device(ValueError("there")) is None


@dataclass(frozen=True)
class MeanOnTheCPU:
    """An adapter that keeps what it knows on the CPU."""

    def prepare(self, model, source, generator):
        return model, torch.zeros(3, 1, 1)

    def step(self, state, images):
        return state[0](images - state[1])


class Offset(nn.Module):
    """A network whose offset is no buffer, so that moving it leaves the offset behind."""

    def __init__(self, network):
        super().__init__()
        self.network, self.offset = network, torch.zeros(4)

    def forward(self, images):
        return self.network(images) + self.offset


@dataclass(frozen=True)
class LeftBehind(RoundToNearest):
    """A quantizer that keeps what it makes in an attribute."""

    def insert(self, model, bits, example):
        return Offset(super().insert(model, bits, example))


@pytest.mark.parametrize(
    ("check", "plugin"), [(testing.adapter_checks, MeanOnTheCPU()), (testing.quantizer_checks, LeftBehind(steps=10))]
)
def test_a_tensor_on_the_wrong_device_fails_the_contract_and_its_line_is_named(check, plugin):
    checks = check(plugin, model=small_cnn(), images=examples.images(6))
    found = [each for each in checks if each.name == "its tensors are where the network is"]
    assert [each.outcome for each in found] == ["fail"]
    assert "test_elsewhere.py, line " in found[0].message
    assert "on the CPU are tensors of shapes" in found[0].message
