import copy
import functools
from collections import deque
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from _dummies.models import random_images, tiny_resnet
from torch import nn

from evalsuite.adaptation.meter import Meter, Spent, changed_parameters, kept_bytes


def metered():
    model, meter = tiny_resnet(), Meter()
    meter.attach(model)
    return model, meter


def test_a_pass_over_a_part_of_the_batch_counts_as_that_part():
    model, meter = metered()
    images = random_images(8)
    with meter.batch(images):
        model(images).sum().backward()
        model(images[:2]).sum().backward()
        with torch.no_grad():
            model(images[:4])
    assert meter.spent.forwards == 1 + 0.25 + 0.5
    assert meter.spent.backwards == 1.25
    assert (meter.spent.batches, meter.spent.images) == (1, 8)
    assert meter.spent.seconds > meter.spent.forward_seconds > 0


def test_two_backward_passes_through_one_forward_are_two():
    model, meter = metered()
    with meter.batch(random_images(4)):
        logits = model(random_images(4))
        logits.sum().backward(retain_graph=True)
        logits.square().sum().backward()
    assert (meter.spent.forwards, meter.spent.backwards) == (1, 2)


def test_passes_outside_of_a_batch_and_failed_steps_are_not_counted():
    model, meter = metered()
    model(random_images(4)).sum().backward()

    def fail():
        model(random_images(4))
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), meter.batch(random_images(4)):
        fail()
    assert meter.spent == Spent()


def test_copies_of_a_network_count_in_the_same_meter():
    model, meter = metered()
    copies = copy.deepcopy([model, model])
    with meter.batch(random_images(4)):
        copies[0](random_images(4))
        copy.deepcopy(model)(random_images(4))
    assert meter.spent.forwards == 2
    assert copies[0] is copies[1]


def test_sums_and_differences_of_what_was_spent():
    a, b = Spent(1, 4, 1.5, 1.0, 0.5, 0.25), Spent(2, 8, 2.0, 0.0, 1.0, 0.5)
    assert (a + b) - b == a


def test_changed_parameters_counts_scalars_by_parameter():
    model = tiny_resnet()
    before = dict(copy.deepcopy(model).named_parameters())
    assert changed_parameters(model, before) == {}
    with torch.no_grad():
        model.bn1.weight[:3] += 1
        model.fc.bias += 1
    model.bn1.running_mean += 1
    assert changed_parameters(model, before) == {"bn1.weight": 3, "fc.bias": 5}
    model.extra = nn.Linear(2, 2)
    assert changed_parameters(model, before) == {"bn1.weight": 3, "fc.bias": 5, "extra.weight": 4, "extra.bias": 2}


@dataclass
class State:
    model: nn.Module
    extra: dict = field(default_factory=dict)


class Slotted:
    __slots__ = ("tensor", "unset")

    def __init__(self, tensor):
        self.tensor = tensor

    def hook(self, *args):
        return None


def test_kept_bytes_follows_containers_and_counts_shared_memory_once():
    model = tiny_resnet()
    owned = [*model.parameters(), *model.buffers()]
    a = torch.zeros(10)
    state = State(model, {"a": [a, a[2:4], deque([a.view(2, 5)])], "own": model.fc.weight[0]})
    state.extra["loop"] = state
    assert kept_bytes(state, owned) == 40
    array = np.zeros(4)
    state.extra["arrays"] = (array, array[:2])
    assert kept_bytes(state, owned) == 40 + 32
    state.extra["partial"] = functools.partial(print, torch.zeros(3), x=torch.zeros(2))
    assert kept_bytes(state, owned) == 72 + 20
    model.fc.register_forward_hook(Slotted(torch.zeros(7)).hook)
    assert kept_bytes(state, owned) == 92 + 28


def test_kept_bytes_sees_optimisers_gradients_and_added_buffers():
    model = nn.Linear(3, 2)
    owned = list(model.parameters())
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.ones(1, 3)).sum().backward()
    assert kept_bytes(model, owned) == 8 * 4
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    assert kept_bytes(model, owned) == 0
    assert kept_bytes(optimizer, owned) == 2 * 8 * 4 + 2 * 4
    model.register_buffer("extra", torch.zeros(5), persistent=False)
    assert kept_bytes(model, owned) == 20
