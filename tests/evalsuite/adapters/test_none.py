import torch
from _dummies.models import random_images, tiny_resnet

from evalsuite.adapters.none import NoAdaptation
from evalsuite.randomness import torch_generator


def test_the_logits_are_the_models_own():
    model = tiny_resnet()
    adapter = NoAdaptation()
    state = adapter.prepare(model, random_images(1), torch_generator(0))
    logits = adapter.step(state, random_images(4))
    assert torch.equal(logits, model(random_images(4)))
    assert not logits.requires_grad
    assert not adapter.adapts
