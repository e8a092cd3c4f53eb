import math

import pytest
import torch
from _dummies.models import CLASSES, random_images, tiny_resnet, tiny_transformer
from torch.nn import functional as F

from evalsuite.adaptation.adapted_model import adapt
from evalsuite.adapters._losses import softmax_entropy
from evalsuite.adapters.eata import EATA
from evalsuite.errors import RequestError
from evalsuite.randomness import torch_generator


def test_without_penalty_one_step_is_the_weighted_entropy_of_reliable_samples():
    model, images = tiny_transformer(), random_images(32)
    entropy = softmax_entropy(model(images))
    margin = float(entropy.detach().median()) / math.log(CLASSES)
    limit = margin * math.log(CLASSES)
    run = adapt(model, "eata", random_images(4), optimizer="sgd", lr=0.1, fisher_weight=0.0, margin=margin)
    run(images)
    reliable = entropy < limit
    assert 0 < reliable.sum() < 32
    (torch.exp(limit - entropy.detach()) * entropy)[reliable].mean().backward()
    for name, parameter in run.state.model.named_parameters():
        before = model.get_parameter(name)
        torch.testing.assert_close(parameter, before - 0.1 * before.grad if "norm" in name else before)


def test_samples_like_those_before_do_not_count_twice():
    state = EATA(redundancy=0.5).prepare(tiny_resnet(), random_images(8), torch_generator(0))
    logits = torch.eye(CLASSES) * 20
    every = torch.ones(CLASSES, dtype=torch.bool)
    assert state.choose(logits[:1], every[:1]).tolist() == [True]
    assert state.choose(logits, every).tolist() == [False, *[True] * (CLASSES - 1)]


def test_nothing_reliable_changes_nothing():
    run = adapt(tiny_resnet(), "eata", random_images(8), margin=1e-6)
    run(random_images(8))
    assert run.costs["adapted_parameters"] == run.costs["backwards"] == 0


def test_fisher_is_the_squared_gradient_of_the_networks_own_predictions():
    model, source = tiny_transformer(), random_images(16)
    state = EATA(fisher_weight=1.0).prepare(model, source, torch_generator(0))
    logits = model(source)
    F.cross_entropy(logits, logits.argmax(dim=1)).backward()
    norms = [parameter for name, parameter in model.named_parameters() if "norm" in name]
    for found, parameter in zip(state.fisher, norms, strict=True):
        torch.testing.assert_close(found, parameter.grad.square())


def test_the_penalty_holds_parameters_near_the_source():
    def moved(weight):
        options = {"optimizer": "sgd", "lr": 0.01, "momentum": 0.0, "margin": 1.0, "redundancy": 2.0}
        run = adapt(tiny_transformer(), "eata", random_images(64), fisher_weight=weight, **options)
        for seed in range(20):
            run(random_images(16, seed))
        own = [p for n, p in run.state.model.named_parameters() if "norm" in n]
        return sum(float((a - b).detach().square().sum()) for a, b in zip(own, run.state.source, strict=True))

    assert moved(300.0) < 0.8 * moved(0.001)


def test_the_authors_settings_follow_the_image_size():
    small = EATA().prepare(tiny_resnet(), random_images(2), torch_generator(0))
    assert (small.redundancy, small.fisher_weight) == (0.4, 1.0)
    large = EATA().prepare(tiny_resnet(), torch.randn(1, 3, 64, 64), torch_generator(0))
    assert (large.redundancy, large.fisher_weight) == (0.05, 2000.0)


@pytest.mark.parametrize("options", [{"margin": 0.0}, {"redundancy": 0.0}, {"fisher_weight": -1.0}])
def test_bad_options(options):
    with pytest.raises(RequestError, match=next(iter(options))):
        EATA(**options)
