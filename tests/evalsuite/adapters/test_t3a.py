import pytest
import torch
from _dummies.models import CLASSES, random_images, tiny_resnet, tiny_transformer
from torch import nn
from torch.nn import functional as F

from evalsuite.adaptation.adapted_model import adapt
from evalsuite.adapters._losses import softmax_entropy
from evalsuite.adapters.t3a import T3A
from evalsuite.errors import Refused, RequestError


@pytest.mark.parametrize("build", [tiny_resnet, tiny_transformer])
def test_agrees_with_a_loop_over_classes(build):
    model, batches = build(), [random_images(12, seed) for seed in range(4)]
    run = adapt(model, "t3a", random_images(4), supports=3)
    features = []
    head = model.fc if hasattr(model, "fc") else model.head
    head.register_forward_pre_hook(lambda module, args: features.append(args[0].detach()))
    pool = list(head.weight.detach())
    for batch in batches:
        found = run(batch)
        model(batch)
        own = features[-1]
        pool += list(own)
        logits = [F.linear(one, head.weight, head.bias) for one in pool]
        rows = []
        for label in range(CLASSES):
            members = [k for k, one in enumerate(logits) if int(one.argmax()) == label]
            members.sort(key=lambda k: float(softmax_entropy(logits[k][None]).detach()))
            kept = [F.normalize(pool[k], dim=0) for k in members[:3]]
            rows.append(F.normalize(sum(kept, torch.zeros_like(pool[0])), dim=0))
        torch.testing.assert_close(found, own @ torch.stack(rows).T, rtol=1e-4, atol=1e-5)


def test_memory_is_bounded_by_the_supports():
    run = adapt(tiny_resnet(), "t3a", random_images(4), supports=2)
    for seed in range(6):
        run(random_images(16, seed))
    assert torch.bincount(run.state.labels, minlength=CLASSES).max() <= 2
    assert run.costs["adapted_parameters"] == run.costs["backwards"] == 0


def test_refusals_and_bad_options():
    convolution = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 14), nn.Flatten()).eval()
    with pytest.raises(Refused, match="t3a needs a linear classifier"):
        adapt(convolution, "t3a", random_images(2))
    with pytest.raises(RequestError, match="supports = 0"):
        T3A(supports=0)
