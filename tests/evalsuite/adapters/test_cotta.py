import pytest
import torch
from _dummies.models import random_images, tiny_resnet, tiny_transformer
from torch import nn

from evalsuite.adaptation.adapted_model import adapt
from evalsuite.adapters.cotta import CoTTA
from evalsuite.errors import Refused, RequestError
from evalsuite.randomness import torch_generator


def test_predictions_are_the_teachers_and_it_follows_slowly():
    model, images = tiny_transformer(), random_images(16)
    run = adapt(model, "cotta", random_images(8), threshold=0.0, ema=0.9, restore=0.0, optimizer="sgd", lr=0.1)
    assert torch.equal(run(images), model(images))
    for name, teacher in run.state.teacher.named_parameters():
        student, source = run.state.model.get_parameter(name), model.get_parameter(name)
        torch.testing.assert_close(teacher, 0.9 * source + 0.1 * student)


def test_views_are_averaged_only_where_the_source_network_is_unsure():
    sure = adapt(tiny_resnet(), "cotta", random_images(8), threshold=0.0, augmentations=3)
    unsure = adapt(tiny_resnet(), "cotta", random_images(8), threshold=1.0, augmentations=3)
    for run in (sure, unsure):
        run(random_images(8))
    assert (sure.state.averaged, unsure.state.averaged) == (0, 1)
    assert (sure.costs["forwards"], unsure.costs["forwards"]) == (3, 5)
    assert sure.costs["backwards"] == 1


@pytest.mark.parametrize(("restore", "expected"), [(0.0, 0.0), (1.0, 1.0), (0.3, 0.3)])
def test_a_share_of_values_is_put_back(restore, expected):
    run = adapt(tiny_resnet(), "cotta", random_images(8), threshold=0.0, restore=restore, lr=0.01)
    run(random_images(32))
    state = run.state
    pairs = zip(state.model.parameters(), state.anchor.parameters(), strict=True)
    same = torch.cat([(a == b).flatten() for a, b in pairs]).float().mean()
    assert float(same) == pytest.approx(expected, abs=0.05)


@pytest.mark.parametrize(("views", "alike"), [("batch", True), ("image", False)])
def test_a_view_changes_all_images_of_a_batch_alike_unless_asked_otherwise(views, alike):
    """Of 12 equal images a view makes 12 equal ones, but for slight noise, and one prediction for all."""
    model, images = tiny_transformer(), random_images(1).expand(12, -1, -1, -1)
    run = adapt(model, "cotta", random_images(8), threshold=1.0, augmentations=1, views=views)
    spread = float(run(images).std(dim=0).max())
    assert (spread < 0.02) is alike, spread
    assert CoTTA().views == "batch"


@pytest.mark.parametrize("symmetric", [True, False])
def test_the_symmetric_loss_is_the_mean_of_both_cross_entropies(symmetric):
    state = CoTTA(symmetric=symmetric).prepare(tiny_resnet(), random_images(4), torch_generator(0))
    student, teacher = random_images(6)[:, 0, 0, :5], random_images(6, 1)[:, 0, 0, :5]
    there = torch.nn.functional.cross_entropy(student, teacher.softmax(1))
    back = torch.nn.functional.cross_entropy(teacher, student.softmax(1))
    torch.testing.assert_close(state.loss(student, teacher), (there + back) / 2 if symmetric else there)


def test_the_authors_settings_follow_the_image_size():
    small = CoTTA().prepare(tiny_resnet(), random_images(4), torch_generator(0))
    large = CoTTA().prepare(tiny_resnet(), torch.randn(2, 3, 64, 64), torch_generator(0))
    assert (small.symmetric, large.symmetric) == (False, True)
    assert (small.restore, small.threshold, small.optimizer.param_groups[0]["lr"]) == (0.01, 0.92, 1e-3)
    assert (large.restore, large.threshold, large.optimizer.param_groups[0]["lr"]) == (0.001, 0.1, 0.01)


def test_refusals_and_bad_options():
    with pytest.raises(Refused, match="cotta needs parameters that may move"):
        adapt(nn.Sequential(nn.Flatten(), nn.ReLU()), "cotta", random_images(2))
    for options in ({"ema": 2.0}, {"restore": -1.0}, {"threshold": 1.5}, {"augmentations": 0}):
        with pytest.raises(RequestError, match=next(iter(options))):
            CoTTA(**options)
