"""Each deliberately wrong quantizer fails exactly the check that is there for it."""

import copy
import random
import warnings
from dataclasses import dataclass, field

import pytest
import torch
from _dummies.small import small_cnn
from torch import nn

from evalsuite import testing
from evalsuite.errors import RequestError
from evalsuite.testing import examples


class Layer(nn.Module):
    """A convolution or linear layer with rounded weights and inputs."""

    def __init__(self, layer, bits):
        super().__init__()
        self.layer, self.bits = layer, bits
        for name in ("low", "step"):
            self.register_buffer(name, torch.zeros(()))
        self.seen, self.gain = None, 1.0

    def forward(self, x):
        if self.seen is not None:
            self.seen.append(x)
        if self.step > 0:
            most = 2**self.bits.activation_bits - 1
            x = ((x - self.low) / self.step).round().clamp(0, most) * self.step + self.low
        return self.layer(x) * self.gain


def wrap(model, bits):
    for name, child in model.named_children():
        if isinstance(child, nn.Conv2d | nn.Linear):
            setattr(model, name, Layer(child, bits))
        else:
            wrap(child, bits)
    return model


def layers(model):
    return [module for module in model.modules() if isinstance(module, Layer)]


@dataclass(frozen=True)
class Right:
    """Min-max rounding to nearest in few lines."""

    def insert(self, model, bits, example):
        return wrap(copy.deepcopy(model), bits)

    def calibrate(self, model, images, generator):
        if images.ndim != 4 or not len(images) or not images.isfinite().all():
            raise RequestError("expected finite images (N, C, H, W)")
        with torch.no_grad():
            self.weights(model)
            for layer in layers(model):
                layer.seen = []
            model(images)
            for layer in layers(model):
                self.inputs(layer, torch.cat([x.flatten() for x in layer.seen]))
                layer.seen = None

    def weights(self, model):
        for layer in layers(model):
            weight = layer.layer.weight
            rows = weight.flatten(1)
            step = (rows.abs().amax(1, keepdim=True) / (2 ** (layer.bits.weight_bits - 1) - 1)).clamp_min(1e-9)
            weight.copy_(((rows / step).round() * step).reshape(weight.shape))

    def inputs(self, layer, x):
        layer.low.copy_(x.min())
        layer.step.copy_(((x.max() - x.min()) / (2**layer.bits.activation_bits - 1)).clamp_min(1e-9))


class IgnoresWeightBits(Right):
    def weights(self, model):
        pass


class IgnoresActivationBits(Right):
    def inputs(self, layer, x):
        pass


class NeverQuantizes(Right):
    def calibrate(self, model, images, generator):
        if images.ndim != 4 or not len(images) or not images.isfinite().all():
            raise RequestError("expected finite images (N, C, H, W)")


class DrawsGlobally(Right):
    def weights(self, model):
        state = torch.get_rng_state()
        model.get_submodule("4").layer.bias.add_(0.01 * torch.randn(()))
        torch.set_rng_state(state)
        super().weights(model)


class SeedDependent(Right):
    def calibrate(self, model, images, generator):
        with torch.no_grad():
            model.get_submodule("4").layer.bias.add_(0.01 * torch.randn((), generator=generator))
        super().calibrate(model, images, generator)


class KeepsInAttribute(Right):
    def inputs(self, layer, x):
        super().inputs(layer, x)
        layer.gain = 1.01


class RestoresOtherwise(Right):
    def inputs(self, layer, x):
        super().inputs(layer, x)
        layer.layer.register_forward_hook(lambda module, args, out: out * 1.01)


@dataclass(frozen=True)
class RemembersOnInstance(Right):
    seen: list = field(default_factory=list)

    def calibrate(self, model, images, generator):
        super().calibrate(model, images, generator)
        with torch.no_grad():
            model.get_submodule("4").layer.bias.add_(len(self.seen))
        self.seen.append(0)


class ChangesSource(Right):
    def insert(self, model, bits, example):
        twin = super().insert(model, bits, example)
        with torch.no_grad():
            model.get_submodule("4").bias.add_(1)
        return twin


class LeavesTrainMode(Right):
    def insert(self, model, bits, example):
        twin = super().insert(model, bits, example)
        model.train()
        return twin


class ChangesImages(Right):
    def calibrate(self, model, images, generator):
        super().calibrate(model, images, generator)
        images.mul_(2)


class SetsDtype(Right):
    def calibrate(self, model, images, generator):
        super().calibrate(model, images, generator)
        torch.set_default_dtype(torch.float64)


class LeavesGradOff(Right):
    def calibrate(self, model, images, generator):
        super().calibrate(model, images, generator)
        torch.set_grad_enabled(False)


class Seeds(Right):
    def calibrate(self, model, images, generator):
        super().calibrate(model, images, generator)
        random.seed(0)


class Silences(Right):
    def calibrate(self, model, images, generator):
        super().calibrate(model, images, generator)
        warnings.simplefilter("ignore", ImportWarning)


class CrashesAtOneImage(Right):
    def calibrate(self, model, images, generator):
        if len(images) == 1:
            raise IndexError("index 1 is out of bounds")
        super().calibrate(model, images, generator)


class TakesNaN(Right):
    def calibrate(self, model, images, generator):
        if images.ndim == 4 and images.isnan().any():
            with torch.no_grad():
                model.get_submodule("4").layer.bias.add_(torch.nan)
            return
        super().calibrate(model, images, generator)


class ReturnsNaN(Right):
    def inputs(self, layer, x):
        if x.max() > x.min():
            super().inputs(layer, x)
        else:
            layer.low.fill_(torch.nan)
            layer.step.fill_(1)


class NeedsSquare(Right):
    def calibrate(self, model, images, generator):
        if images.ndim == 4 and images.shape[2] != images.shape[3]:
            raise AssertionError
        super().calibrate(model, images, generator)


class TakesNonsense(Right):
    def calibrate(self, model, images, generator):
        if images.ndim == 4 and not len(images):
            return
        super().calibrate(model, images, generator)


MEMORY = "the plugin keeps no memory"
PROCESS = "the process is left as it was"
BROKEN = {
    IgnoresWeightBits: {"weights keep their bits"},
    IgnoresActivationBits: {"activations keep their bits"},
    DrawsGlobally: {"the same seed gives the same bits", MEMORY},
    SeedDependent: {"another seed matters as declared"},
    KeepsInAttribute: {"its state restores it"},
    RestoresOtherwise: {"its state restores it"},
    RemembersOnInstance: {MEMORY},
    ChangesSource: {"the source model is untouched"},
    LeavesTrainMode: {"the source model is untouched"},
    ChangesImages: {"the images are untouched"},
    SetsDtype: {PROCESS},
    LeavesGradOff: {PROCESS},
    Seeds: {PROCESS},
    Silences: {PROCESS},
    CrashesAtOneImage: {"one image will do"},
    TakesNaN: {"NaN in an image is no silent NaN"},
    ReturnsNaN: {"a constant image will do"},
    NeedsSquare: {"images need not be square"},
    TakesNonsense: {"nonsense is refused clearly"},
    NeverQuantizes: {
        "weights keep their bits",
        "activations keep their bits",
        "predictions are not full precision's",
    },
}


def failed(plugin):
    checks = testing.quantizer_checks(plugin, model=small_cnn(), images=examples.images(6))
    return {check.name for check in checks if check.outcome == "fail"}


def test_a_right_one_passes():
    testing.check_quantizer(Right())
    testing.check_quantizer(Right)


@pytest.mark.parametrize("plugin", BROKEN, ids=lambda plugin: plugin.__name__)
def test_a_wrong_one_fails_at_its_check(plugin):
    assert failed(plugin()) == BROKEN[plugin]


def test_the_failure_lists_checks_with_their_mend():
    with pytest.raises(AssertionError, match="1 of 21 checks failed") as raised:
        testing.check_quantizer(ChangesImages(), model=small_cnn(), images=examples.images(6))
    assert "Change a copy of the images." in str(raised.value)


def test_what_lacks_a_method_is_not_run():
    checks = testing.quantizer_checks(nn.Identity())
    assert [(check.outcome, check.spoils_numbers) for check in checks] == [("fail", True)]
