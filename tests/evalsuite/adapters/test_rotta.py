import pytest
import torch
from _dummies.models import random_images, tiny_resnet, tiny_transformer

from evalsuite.adaptation.adapted_model import adapt
from evalsuite.adapters.rotta import Memory, RoTTA
from evalsuite.errors import Refused, RequestError


def test_memory_is_balanced_over_classes():
    memory = Memory(room=12, age_weight=1.0, entropy_weight=1.0)
    for number in range(200):  # nine of ten images are of class 0
        memory.offer(torch.full((1, 1, 1), float(number)), 0 if number % 10 else 1 + number // 10 % 2, 0.5, classes=3)
    assert len(memory.images) == 12
    assert [memory.labels.count(label) for label in range(3)] == [4, 4, 4]


def test_memory_gives_up_the_old_and_unsure():
    memory = Memory(room=4, age_weight=1.0, entropy_weight=1.0)
    for value, entropy in ((0.0, 0.1), (1.0, 0.9)):
        memory.offer(torch.full((1, 1, 1), value), 0, entropy, classes=2)
    # Class 0 holds its share of the room, so it must give one up; the unsure one goes.
    memory.offer(torch.full((1, 1, 1), 2.0), 0, 0.2, classes=2)
    assert [float(image) for image in memory.images] == [0.0, 2.0]
    images, ages = memory.contents()
    assert images.shape == (2, 1, 1, 1)
    assert ages[0] > ages[1]


def test_memory_does_not_take_what_is_worse_than_all_it_has():
    memory = Memory(room=1, age_weight=0.0, entropy_weight=1.0)
    memory.offer(torch.zeros(1, 1, 1), 0, 0.1, classes=2)
    memory.offer(torch.ones(1, 1, 1), 0, 0.6, classes=2)
    assert float(memory.images[0]) == 0


def test_the_first_predictions_are_the_source_networks():
    model, images = tiny_resnet(), random_images(8)
    run = adapt(model, "rotta", random_images(4), update_every=64)
    torch.testing.assert_close(run(images), model(images))
    assert run.costs["adapted_parameters"] == 0


def test_statistics_move_by_a_share_when_the_memory_is_looked_at():
    model, images = tiny_resnet(), random_images(8)
    run = adapt(model, "rotta", random_images(4), update_every=8, bank=40, statistics=0.25)
    run(images)
    stem = model.conv1(images)
    expected = 0.75 * model.bn1.running_mean + 0.25 * stem.mean((0, 2, 3))
    torch.testing.assert_close(run.state.teacher.bn1.running_mean, expected, rtol=1e-4, atol=1e-5)
    assert run.costs["backwards"] == 1
    assert run.costs["forwards"] == 3


def test_updates_come_after_so_many_images_whatever_the_batches():
    runs = [adapt(tiny_resnet(), "rotta", random_images(4), update_every=8, bank=8) for _ in range(2)]
    whole, single = random_images(24), random_images(24).split(1)
    runs[0](whole)
    for one in single:
        runs[1](one)
    assert runs[0].costs["adapted_parameters"] > 0
    assert runs[1].costs["adapted_parameters"] > 0
    assert runs[0].state.waiting == runs[1].state.waiting == 0


def test_refusals_and_bad_options():
    with pytest.raises(Refused, match="rotta needs BatchNorm layers"):
        adapt(tiny_transformer(), "rotta", random_images(2))
    for options in ({"lr": 0.0}, {"bank": 0}, {"update_every": 0}, {"ema": 2.0}, {"statistics": -0.1}):
        with pytest.raises(RequestError, match=next(iter(options))):
            RoTTA(**options)
