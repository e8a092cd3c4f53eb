import pytest
import torch
from _dummies.models import random_images, tiny_resnet, tiny_transformer
from torch import nn

from evalsuite.adaptation.adapted_model import adapt
from evalsuite.adapters.neo import NEO
from evalsuite.errors import Refused, RequestError
from evalsuite.quantization.apply import quantize

SOURCE = random_images(80, 9)
BATCHES = [random_images(12 + seed, seed) * 1.5 + 0.5 * seed for seed in range(4)]


def quantized(build):
    return quantize(build(), SOURCE[:32], method="rtn", weight_bits=4, activation_bits=4)


def plainly(model, momentum, centred):
    """Predict the batches by a loop in which nothing is shared with the adapter."""
    head, features = (model.fc if hasattr(model, "fc") else model.head), []
    hook = head.register_forward_pre_hook(lambda module, args: features.append(args[0].detach()))
    with torch.no_grad():
        model(SOURCE)
        source = features.pop().mean(0) if centred else 0.0
        sums, count, mean, predictions = 0.0, 0, None, []
        for batch in BATCHES:
            model(batch)
            own = features.pop()
            sums, count = sums + own.sum(0), count + len(own)
            if momentum is None:
                mean = sums / count
            else:
                mean = own.mean(0) if mean is None else momentum * mean + (1 - momentum) * own.mean(0)
            predictions.append(head(own - mean + source))
            features.clear()
    hook.remove()
    return predictions


@pytest.mark.parametrize("build", [tiny_resnet, tiny_transformer])
@pytest.mark.parametrize("rounded", [False, True])
@pytest.mark.parametrize(("momentum", "centre"), [(0.9, "source"), (None, "source"), (0.5, "origin")])
def test_is_the_plain_loop_at_one_forward_a_batch(build, rounded, momentum, centre):
    model = quantized(build) if rounded else build()
    run = adapt(model, NEO(momentum, centre), SOURCE)
    found = [run(batch) for batch in BATCHES]
    expected = plainly(model, momentum, centre == "source")
    if rounded:  # a value between two steps may fall to either side
        assert torch.cat(found).argmax(1).eq(torch.cat(expected).argmax(1)).float().mean() > 0.95
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=0.05 if rounded else 1e-5)
    assert run.costs["forwards"] == len(BATCHES)
    assert run.costs["backwards"] == run.costs["adapted_parameters"] == 0


def test_a_shift_of_all_features_is_undone():
    """A network whose features the images' mean moves, and moves alike, answers as if it had not."""
    model = nn.Sequential(nn.Conv2d(3, 8, 16), nn.Flatten(), nn.Linear(8, 5)).eval()
    batch = random_images(64)
    around = adapt(model, "evalsuite.adapters.neo:NEO", SOURCE)(batch + 2.0)
    torch.testing.assert_close(around, adapt(model, NEO(), SOURCE)(batch), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(model(batch + 2.0), around, atol=0.1)


def test_refusals_and_bad_options():
    convolution = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 14), nn.Flatten()).eval()
    with pytest.raises(Refused, match="neo needs a classifier"):
        adapt(convolution, NEO(), random_images(2))
    with pytest.raises(RequestError, match=r"momentum = 1\.0"):
        NEO(momentum=1.0)
