"""What every quantizer owes, whatever its method."""

from __future__ import annotations

import copy
import functools
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from evalsuite.bits import BitPolicy
from evalsuite.optional_members import is_calibrated, is_stochastic
from evalsuite.plugins import Quantizer
from evalsuite.quantization.plain_state import lost_attributes, plain_attributes
from evalsuite.quantization.saving import read_state, write_state
from evalsuite.randomness import torch_generator
from evalsuite.testing import examples
from evalsuite.testing._check import (
    Check,
    Failed,
    NotApplicable,
    Question,
    changed_state,
    factory,
    global_state,
    make_by_network,
    questions_about,
    refused_clearly,
    require,
    scatter,
)
from evalsuite.testing._elsewhere import on_another_device, require_there
from evalsuite.testing._operands import levels

BITS = BitPolicy(3, 3, first_last_bits=3)
"""By default: 8 levels, so that a method that ignores its bits is seen."""


@dataclass(frozen=True)
class _Observed:
    network: nn.Module
    source: list[str]
    images_kept: bool
    process: list[str]
    lost: list[str]


@dataclass(frozen=True)
class _Subject:
    """A quantizer, given anew each time, and what it is tried on."""

    fresh: Callable[[], Any]
    network: Callable[[], nn.Module]
    images: Tensor
    bits: BitPolicy

    def insert(self, source: nn.Module | None = None, plugin: Any = None) -> nn.Module:
        """Insert into the network; images of a batch of one are the example."""
        model = self.network() if source is None else source
        inserted = (plugin or self.fresh()).insert(model, self.bits, self.images[:1])
        if not isinstance(inserted, nn.Module):
            raise Failed(f"insert gives a {type(inserted).__name__}: expected a torch.nn.Module")
        return inserted.eval()

    def calibrated(self, seed: int = 0, images: Tensor | None = None, plugin: Any = None) -> nn.Module:
        """Insert and calibrate."""
        plugin = plugin or self.fresh()
        twin = self.insert(plugin=plugin)
        given = self.images if images is None else images
        plugin.calibrate(twin, given.clone(), torch_generator(seed, "testing"))
        return twin

    @functools.cached_property
    def observed(self) -> _Observed:
        """One calibration with everything around it looked at before and after."""
        scatter(1)
        model, given, plugin = self.network(), self.images.clone(), self.fresh()
        before, state = _facts(model), global_state()
        twin = self.insert(model, plugin)
        plain = plain_attributes(twin)
        plugin.calibrate(twin, given, torch_generator(0, "testing"))
        process = changed_state(state)
        now = _facts(model)
        changed = [name for name in sorted(before.keys() | now.keys()) if before.get(name) != now.get(name)]
        lost = lost_attributes(twin, plain, self.images)
        return _Observed(twin, changed, torch.equal(given, self.images), process, lost)

    def twin(self) -> nn.Module:
        """Return a copy of the network that was calibrated with seed 0."""
        return copy.deepcopy(self.observed.network)

    @property
    def takes_bits(self) -> bool:
        """Whether bits and calibration set play a role."""
        return is_calibrated(self.fresh())


def check_quantizer(
    quantizer: Any, *, model: nn.Module | None = None, images: Tensor | None = None, bits: BitPolicy = BITS
) -> None:
    """Raise AssertionError with every failed check of a quantizer and its mend; parameters as below."""
    require(quantizer_checks(quantizer, model=model, images=images, bits=bits), quantizer)


def quantizer_checks(
    quantizer: Any, *, model: nn.Module | None = None, images: Tensor | None = None, bits: BitPolicy = BITS
) -> list[Check]:
    """Check that a quantizer keeps its contract.

    Parameters
    ----------
    quantizer : a class, an instance, an entry point's name, ``package.module:Class`` or ``path.py:Class``.
    model : a network in eval mode to try it on; by default a small CNN and a small transformer, of which a method
        may refuse either.
    images : (N, C, H, W) normalised images for ``model``, at least 2.
    bits : what is asked of weights and activations; by default 3 bits each.

    Raises
    ------
    RequestError
        If the quantizer cannot be found or made.
    """
    fresh = factory("quantizers", quantizer)
    networks = examples.NETWORKS if model is None else {"": lambda: copy.deepcopy(model)}
    given = examples.images() if images is None else images
    subjects = {name: _Subject(fresh, network, given, bits) for name, network in networks.items()}
    return make_by_network(fresh, Quantizer, ("insert", "calibrate"), subjects, _questions)


def _questions(subject: _Subject) -> list[Question]:
    spoiling = {
        "insert and calibrate run": (_runs, "Make it run, or raise evalsuite.errors.Refused."),
        "the source model is untouched": (_source, "Work on copy.deepcopy(model) in insert."),
        "the images are untouched": (_images, "Change a copy of the images."),
        "the same seed gives the same bits": (_same_seed, "Draw from the generator that calibrate is given, only."),
        "another seed matters as declared": (_other_seed, "Declare stochastic: ClassVar[bool] as it is."),
        "weights keep their bits": (_weights, "Round every row of a weight to at most 2 ** weight_bits values."),
        "activations keep their bits": (_activations, "Round each layer's input to 2 ** activation_bits values."),
        "predictions are not full precision's": (_quantizes, "Use what was calibrated in forward."),
        "its state restores it": (_restored, "Keep what is learnt in parameters and buffers that insert makes."),
        "its state can be saved and loaded": (_saved, "Keep what is learnt in finite parameters and buffers."),
        "the plugin keeps no memory": (_memory, "Keep nothing on the instance, its class or its module."),
        "the process is left as it was": (_process, "Put back what you set, for example by torch.no_grad()."),
    }
    other: dict[str, tuple[Callable[[_Subject], None], str]] = {
        "one image will do": (lambda s: _finite(s, s.images[:1]), "Take N = 1, for example without a deviation."),
        "a constant image will do": (lambda s: _finite(s, torch.ones_like(s.images)), "Take a range of no width."),
        "NaN in an image is no silent NaN": (_not_a_number, "Raise RequestError for images that are not finite."),
        "a channel of zeros will do": (_zero_channel, "Take a weight's row of zeros, whose range has no width."),
        "1 x 1 pixel will do": (lambda s: _finite(s, s.images[..., :1, :1]), "Assume no size of an image."),
        "images need not be square": (lambda s: _finite(s, s.images[..., :-4]), "Assume no shape of an image."),
        "its tensors are where the network is": (_elsewhere, "Make tensors with device=images.device, or as buffers."),
        "nonsense is refused clearly": (_nonsense, "Raise RequestError: expected finite images (N, C, H, W)."),
    }
    return questions_about(subject, spoiling) + questions_about(subject, other, spoils_numbers=False)


def _facts(model: nn.Module) -> dict[str, Any]:
    """Return what may not change of a source model, by name, in a form that can be compared."""
    state = {name: value.numpy(force=True).tobytes() for name, value in model.state_dict().items()}
    modes = {f"mode of {name or 'the network'}": module.training for name, module in model.named_modules()}
    hooks = {
        f"hooks of {name or 'the network'}": len(module._forward_hooks) + len(module._forward_pre_hooks)
        for name, module in model.named_modules()
    }
    frozen = {f"requires_grad of {name}": value.requires_grad for name, value in model.named_parameters()}
    return {**state, **modes, **hooks, **frozen}


def _same(a: nn.Module, b: nn.Module) -> list[str]:
    """Return the names of what differs between two states, NaN being NaN."""
    first, second = a.state_dict(), b.state_dict()
    if first.keys() != second.keys():
        return sorted(first.keys() ^ second.keys())
    return [
        name
        for name, value in first.items()
        if value.shape != second[name].shape or not torch.equal(value.nan_to_num(), second[name].nan_to_num())
    ]


def _differ(subject: _Subject, a: nn.Module, b: nn.Module) -> str:
    names = _same(a, b)
    if names:
        return f"{', '.join(names[:3])} {'differ' if len(names) > 1 else 'differs'}"
    with torch.no_grad():
        return "" if torch.equal(a(subject.images), b(subject.images)) else "the outputs differ"


def _runs(subject: _Subject) -> None:
    _ = subject.observed


def _source(subject: _Subject) -> None:
    if subject.observed.source:
        raise Failed(f"of the source model changed: {', '.join(subject.observed.source[:3])}")


def _images(subject: _Subject) -> None:
    if not subject.observed.images_kept:
        raise Failed("calibrate changed the images that it was given")


def _same_seed(subject: _Subject) -> None:
    first = subject.twin()
    scatter(2)
    if difference := _differ(subject, first, subject.calibrated()):
        raise Failed(f"two calibrations with one seed: {difference}")


def _other_seed(subject: _Subject) -> None:
    first = subject.twin()
    scatter(1)
    difference, declared = _differ(subject, first, subject.calibrated(1)), is_stochastic(subject.fresh())
    if difference and not declared:
        raise Failed(f"two seeds: {difference}, and stochastic is not True")
    if declared and not difference:
        raise NotApplicable("stochastic is True; with these options two seeds give the same")


def _levels(subject: _Subject) -> list[tuple[int, int]]:
    if not subject.takes_bits:
        raise NotApplicable("calibrated is False: bits play no role")
    seen = levels(subject.twin(), subject.images)
    if not seen:
        raise NotApplicable("no product of torch's is computed, as in an engine of its own")
    return seen


def _weights(subject: _Subject) -> None:
    bits = max(subject.bits.weight_bits, subject.bits.first_last_bits)
    most = max(weights for weights, _ in _levels(subject))
    if most > 2**bits:
        raise Failed(f"a weight's row takes {most} values: expected at most {2**bits} at {bits} bits")


def _activations(subject: _Subject) -> None:
    bits = max(subject.bits.activation_bits, subject.bits.first_last_bits)
    most = max(inputs for _, inputs in _levels(subject))
    if most > 2**bits and not subject.bits.per_token:
        raise Failed(f"a layer's input takes {most} values: expected at most {2**bits} at {bits} bits")


@torch.no_grad()
def _quantizes(subject: _Subject) -> None:
    if not subject.takes_bits:
        raise NotApplicable("calibrated is False: this is full precision")
    if torch.equal(subject.twin()(subject.images), subject.network()(subject.images)):
        raise Failed(f"the logits at {subject.bits} are those of full precision, bit for bit")


def _restored(subject: _Subject) -> None:
    if lost := subject.observed.lost:
        raise Failed(f"{', '.join(lost[:3])} would be lost: no parameter and no buffer")
    twin = subject.twin()
    again = subject.insert()
    again.load_state_dict(twin.state_dict())
    if difference := _differ(subject, twin, again):
        raise Failed(f"restored into a fresh insert: {difference}")


def _saved(subject: _Subject) -> None:
    twin, again = subject.twin(), subject.insert()
    with tempfile.TemporaryDirectory(prefix="evalsuite-") as folder:
        file = Path(folder) / "state.safetensors"
        write_state(file, twin, {})
        read_state(file, again)
    if names := _same(twin, again):
        raise Failed(f"{', '.join(names[:3])} differ when read back")


def _memory(subject: _Subject) -> None:
    plugin = subject.fresh()
    subject.calibrated(images=subject.images.flip(-1) * 2 + 1, plugin=plugin)
    if difference := _differ(subject, subject.calibrated(plugin=plugin), subject.twin()):
        raise Failed(f"an instance that calibrated before, and a new one: {difference}")


def _process(subject: _Subject) -> None:
    if subject.observed.process:
        raise Failed(f"changed: {', '.join(subject.observed.process)}")


def _elsewhere(subject: _Subject) -> None:
    plugin = subject.fresh()
    twin = subject.insert(plugin=plugin)
    with on_another_device(products_here=not subject.takes_bits) as device:
        images = subject.images.to(device)
        plugin.calibrate(twin.to(device), images, torch_generator(0, "testing"))
        with torch.no_grad():
            require_there(twin(images))


@torch.no_grad()
def _finite(subject: _Subject, images: Tensor) -> None:
    try:
        subject.network()(images)
    except Exception as error:  # whatever a network raises that is made for one size
        raise NotApplicable(f"the network itself does not take {tuple(images.shape)}") from error
    with torch.enable_grad():
        twin = subject.calibrated(images=images)
    if not twin(images).isfinite().all():
        raise Failed(f"calibrated on {tuple(images.shape)}: logits are not finite")


@torch.no_grad()
def _not_a_number(subject: _Subject) -> None:
    if not subject.takes_bits:
        raise NotApplicable("calibrated is False: it looks at no image")
    broken = subject.images.clone()
    broken[0, 0, 0, 0] = torch.nan
    try:
        with torch.enable_grad():
            twin = subject.calibrated(images=broken)
    except Exception as error:
        if str(error):
            return
        raise Failed(f"{type(error).__name__} without a message") from error
    if not twin(subject.images).isfinite().all():
        raise Failed("calibrated on an image with NaN without an error: logits are NaN")


def _zero_channel(subject: _Subject) -> None:
    def network() -> nn.Module:
        model = subject.network()
        with torch.no_grad():
            layer = next(m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear))
            layer.weight[0] = 0
        return model

    _finite(_Subject(subject.fresh, network, subject.images, subject.bits), subject.images)


def _nonsense(subject: _Subject) -> None:
    if not subject.takes_bits:
        raise NotApplicable("calibrated is False: it looks at no image")
    refused_clearly(lambda: subject.calibrated(images=subject.images[0, 0]), "an image of two axes")
    refused_clearly(lambda: subject.calibrated(images=subject.images[:0]), "a batch without images")
