"""What every registered quantizer owes, whatever its method; engines that bring their own are tested beside them."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from _dummies.models import TinyBlock, TinyTransformer, random_images
from torch import Tensor, nn

from evalsuite import registry
from evalsuite.bits import BitPolicy
from evalsuite.errors import QuantizationWarning, Refused, own_warnings
from evalsuite.quantization.grids.layers import quantized_layers
from evalsuite.randomness import torch_generator

NAMES = [
    name
    for name in registry.names("quantizers")
    if not hasattr(registry.load("quantizers", name), "engine") and not registry.required_options("quantizers", name)
]
X = random_images(12)
HASTE = {"iterations": 10, "learning_rate": 0.2, "candidates": 5, "rows": 16, "range_images": 8, "batch_size": 6}
BITS = BitPolicy(3, 4)


class OneBlock(nn.Module):
    """The smallest residual network."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, 2, bias=False)
        self.norm = nn.BatchNorm2d(6)
        self.blocks = nn.Sequential(TinyBlock(6, 8, 2))
        self.fc = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.blocks(torch.relu(self.norm(self.stem(x)))).mean((2, 3)))


BUILDS = {"cnn": OneBlock, "transformer": lambda: TinyTransformer(depth=1)}


def seeded(build: Callable[[], nn.Module]) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build().eval()


def quick(name: str) -> registry.Setting:
    """Configure a quantizer so that it takes no time and still leaves its starting point."""
    known = registry.option_names("quantizers", name)
    chosen = {option: HASTE["iterations"] for option in known if option.endswith("iterations")}
    return registry.configure("quantizers", name, {o: v for o, v in (HASTE | chosen).items() if o in known})


def inserted(name: str, model: nn.Module, bits: BitPolicy = BITS) -> nn.Module:
    try:
        return quick(name).build().insert(model, bits, X[:1]).eval()
    except Refused as refused:
        pytest.skip(f"{name} does not serve this network: {refused}")


def quantized(name: str, model: nn.Module, seed: int = 0, bits: BitPolicy = BITS) -> nn.Module:
    twin = inserted(name, model, bits)
    quick(name).build().calibrate(twin, X, torch_generator(seed))
    return twin


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", BUILDS)
def test_the_seed_decides_and_the_state_is_all_there_is(name, kind):
    model = seeded(BUILDS[kind])
    before = copy.deepcopy(model.state_dict())
    with own_warnings(QuantizationWarning):
        first, again, other = (quantized(name, model, seed) for seed in (0, 0, 1))
        fresh = inserted(name, model)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    state = first.state_dict()
    assert state.keys() == again.state_dict().keys()
    assert all(torch.equal(state[key], value) for key, value in again.state_dict().items())
    same = all(torch.equal(state[key], value) for key, value in other.state_dict().items())
    assert same is not getattr(registry.load("quantizers", name), "stochastic", False)
    fresh.load_state_dict(state)
    with torch.no_grad():
        assert torch.equal(fresh(X), first(X))


class Branch(nn.Module):
    """A stem, a block that some inputs do not reach, a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.body = nn.Conv2d(6, 6, 3, padding=1)
        self.unused = nn.Conv2d(6, 6, 1)
        self.head = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.body(torch.relu(self.stem(x)))).mean((2, 3)))


def zero_channel(model: Branch) -> None:
    model.body.weight.data[2] = 0


def dead_activation(model: Branch) -> None:
    model.stem.weight.data.zero_()
    model.stem.bias.data.fill_(-1)


def constant_activation(model: Branch) -> None:
    model.stem.weight.data.zero_()
    model.stem.bias.data.fill_(0.7)


def not_a_number(model: Branch) -> None:
    model.stem.bias.data[1] = torch.nan


def infinite(model: Branch) -> None:
    model.stem.bias.data[1] = torch.inf


CASES: dict[str, tuple[Callable[[Branch], None], str]] = {
    "zero channel": (zero_channel, "body: 1 of 6 output channels have only zero weights"),
    "dead activation": (dead_activation, "body.input_quantizer: constant, always 0"),
    "constant activation": (constant_activation, "body.input_quantizer: constant, always 0.7"),
    "unreached layer": (lambda model: None, "unused: not reached"),
    "NaN": (not_a_number, "body"),
    "infinity": (infinite, "body"),
}


@pytest.mark.parametrize("name", [name for name in NAMES if name != "full_precision"])
@pytest.mark.parametrize("case", CASES)
def test_what_is_broken_is_named_and_leaves_no_nan(name, case):
    spoil, message = CASES[case]
    model = seeded(Branch)
    spoil(model)
    with own_warnings(QuantizationWarning) as caught:
        twin = quantized(name, model)
    assert any(message in text for text in caught), caught
    for key, value in twin.state_dict().items():
        if not (case in ("NaN", "infinity") and key == "stem.bias"):  # the network's own
            assert value.isfinite().all(), key
    for layer in quantized_layers(twin).values():
        assert (layer.weight_scale > 0).all()
        assert layer.input_quantizer.scale > 0
    if case not in ("NaN", "infinity"):
        with torch.no_grad():
            assert twin(X).isfinite().all()


@pytest.mark.parametrize("name", [name for name in NAMES if name != "full_precision"])
def test_bits_of_single_layers_are_kept(name):
    bits = BitPolicy(3, 4, overrides={"blocks.*.conv2": "W5A6", "fc": "W7A7"}, first_bits=6)
    with own_warnings(QuantizationWarning):
        twin = quantized(name, seeded(OneBlock), bits=bits)
    found = {name: (layer.weight_bits, layer.input_quantizer.bits) for name, layer in quantized_layers(twin).items()}
    assert found["stem"] == (6, 6)
    assert found["blocks.0.conv1"] == (3, 4)
    assert found["blocks.0.conv2"] == (5, 6)
    assert found["fc"] == (7, 7)
    for layer in quantized_layers(twin).values():
        for row in layer.weight.reshape(len(layer.weight), -1):
            assert row.unique().numel() <= 2**layer.weight_bits
