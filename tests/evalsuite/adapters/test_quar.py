import pytest
import torch
from _dummies.models import random_images, tiny_resnet, tiny_transformer
from hypothesis import given, settings
from hypothesis import strategies as st

from evalsuite.adaptation.adapted_model import adapt
from evalsuite.adapters._observer import Moments
from evalsuite.adapters.quar import QuAR, pooled, realigned
from evalsuite.errors import RequestError
from evalsuite.quantization.apply import quantize

SOURCE = random_images(60, 9)
BATCHES = [random_images(12 + seed, seed) * 1.5 + 0.5 * seed for seed in range(3)]
REALIGNED = {
    tiny_resnet: ["layer3.0.conv1", "layer3.0.conv2", "layer3.0.shortcut.0", "layer3.1.conv1", "layer3.1.conv2", "fc"],
    tiny_transformer: [*(f"blocks.3.{name}" for name in ("attn.qkv", "attn.proj", "fc1", "fc2")), "head"],
}


def plainly(model, names):
    """Predict the batches layer by layer by the formula, moments by torch.mean and torch.std."""
    source, strength = {}, {name: 1.0 if name == names[-1] else 0.5 for name in names}

    def at(name):
        def hook(module, args):
            x = args[0]
            channel = 1 if x.ndim == 4 else x.ndim - 1
            over = [dim for dim in range(x.ndim) if dim != channel]
            mean, spread = x.mean(over, keepdim=True), x.std(over, keepdim=True, correction=0)
            if name not in source:
                source[name] = (mean, spread)
                return None
            mean_s, spread_s = source[name]
            ratio = torch.minimum(spread_s / (spread + 1e-12), torch.tensor(3.0))
            return (1 - strength[name]) * x + strength[name] * ((x - mean) * ratio + mean_s)

        return hook

    hooks = [model.get_submodule(name).register_forward_pre_hook(at(name)) for name in names]
    with torch.no_grad():
        model(SOURCE)
        predictions = [model(batch) for batch in BATCHES]
    for hook in hooks:
        hook.remove()
    return predictions


@pytest.mark.parametrize("build", REALIGNED)
@pytest.mark.parametrize("rounded", [False, True])
def test_is_the_plain_formula_at_one_forward_a_batch(build, rounded):
    model = build()
    if rounded:
        model = quantize(model, SOURCE[:32], method="rtn", weight_bits=8, activation_bits=8)
    run = adapt(model, QuAR(), SOURCE)
    found = [run(batch) for batch in BATCHES]
    for one, other in zip(found, plainly(model, REALIGNED[build]), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=0.05 if rounded else 1e-4)
        assert one.argmax(1).eq(other.argmax(1)).float().mean() > 0.95
    assert run.costs["forwards"] == len(BATCHES)
    assert run.costs["backwards"] == run.costs["adapted_parameters"] == 0


@pytest.mark.parametrize("build", REALIGNED)
def test_the_source_itself_stays_as_it_is(build):
    model = build()
    torch.testing.assert_close(adapt(model, QuAR(), SOURCE)(SOURCE), model(SOURCE), rtol=1e-3, atol=1e-4)


@settings(deadline=None, max_examples=25)
@given(shift=st.floats(-5, 5), scale=st.floats(0.34, 20.0), seed=st.integers(0, 99))
def test_an_affine_change_is_undone_at_full_strength(shift, scale, seed):
    """Down to a third of the source's spread, below which the ratio's limit begins."""
    x = torch.randn(6, 3, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    moved = scale * x + shift
    source, batch = (Moments(y.mean((0, 2)), y.std((0, 2), correction=0)) for y in (x, moved))
    torch.testing.assert_close(realigned(moved, batch, source, 1.0, 3.0), x)
    half = realigned(moved, batch, source, 0.5, 3.0)
    torch.testing.assert_close(half, (moved + x) / 2)
    weak = realigned(moved, batch, source, 1.0, 1 / scale / 2)  # half the ratio that would be needed
    torch.testing.assert_close(weak, (x - source.mean.view(1, -1, 1)) / 2 + source.mean.view(1, -1, 1))


def test_moments_of_parts_are_those_of_the_whole():
    x = torch.randn(50, 4, dtype=torch.float64) * 3 + 1
    parts = [(len(part), Moments(part.mean(0), part.var(0, correction=0))) for part in x.split([7, 30, 13])]
    joined = pooled(parts)
    torch.testing.assert_close(joined.mean, x.mean(0))
    torch.testing.assert_close(joined.spread, x.std(0, correction=0))
    assert pooled([]) is None


def test_one_value_a_channel_has_no_spread_and_passes():
    model = tiny_resnet()
    alone = adapt(model, QuAR(inner=0.0), SOURCE)(BATCHES[0][:1])
    torch.testing.assert_close(alone, model(BATCHES[0][:1]))


@pytest.mark.parametrize("option", [{"inner": 1.5}, {"last": -0.1}, {"largest_ratio": 0.0}, {"blocks": -1}])
def test_bad_options(option):
    with pytest.raises(RequestError, match=f"{next(iter(option))} = "):
        QuAR(**option)
