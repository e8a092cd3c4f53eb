import pytest
import torch
from _dummies.models import random_images, tiny_resnet, tiny_transformer
from torch import nn

from evalsuite.adapters._observer import Moments, Observer, batch_moments, moment_distance
from evalsuite.structure import describe


def observe(model, images):
    observer = Observer(model, describe(model, images))
    with torch.no_grad():
        return observer, observer(images)


def test_what_is_seen_of_a_cnn():
    model, images = tiny_resnet(), random_images(6)
    _, seen = observe(model, images)
    with torch.no_grad():
        stem = model.conv1(images)
        x = torch.relu(model.bn1(stem))
        expected = []
        for stage in (model.layer1, model.layer2, model.layer3):
            x = stage(x)
            expected.append(x.mean((2, 3)))
    torch.testing.assert_close(seen.groups, expected)
    torch.testing.assert_close(seen.feature, expected[-1])
    torch.testing.assert_close(seen.stem.mean, stem.mean((0, 2, 3)))
    torch.testing.assert_close(seen.stem.spread, stem.transpose(0, 1).flatten(1).var(1, correction=0))
    torch.testing.assert_close(seen.logits, tiny_resnet()(images))


def test_what_is_seen_of_a_transformer():
    model, images = tiny_transformer(), random_images(6)
    _, seen = observe(model, images)
    with torch.no_grad():
        patches = model.patches(images).flatten(2).transpose(1, 2) + model.position[:, 1:]
        x = torch.cat([model.token.expand(6, -1, -1) + model.position[:, :1], patches], 1)
        expected = []
        for block, norm in zip(model.blocks, [*(b.norm1 for b in model.blocks[1:]), model.norm], strict=True):
            x = block(x)
            expected.append(norm(x)[:, 0])
    torch.testing.assert_close(seen.groups, [torch.cat(expected, 1)])
    torch.testing.assert_close(seen.feature, expected[-1])
    torch.testing.assert_close(seen.stem.mean, patches.mean((0, 1)))
    torch.testing.assert_close(seen.stem.spread, patches.flatten(0, 1).var(0, correction=0))


def test_classifying_leaves_nothing_behind_for_the_next_pass():
    observer, seen = observe(tiny_resnet(), random_images(6))
    with torch.no_grad():
        observer.classify(torch.zeros(2, 16))
        again = observer(random_images(6))
    assert torch.equal(again.feature, seen.feature)


class WithoutClassToken(nn.Module):
    """Blocks see (N, H, W, C); nothing follows the last."""

    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(3, 4, 4, 4)
        self.blocks = nn.ModuleList(_Mixer() for _ in range(2))
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        x = self.patches(x).permute(0, 2, 3, 1)
        for block in self.blocks:
            x = block(x=x)
        return self.head(x.mean((1, 2)))


class _Mixer(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.a, self.b = nn.LayerNorm(4), nn.Linear(4, 8), nn.Linear(8, 4)

    def forward(self, x):
        return x + self.b(torch.relu(self.a(self.norm(x))))


def test_tokens_are_averaged_where_there_is_no_class_token():
    torch.manual_seed(0)
    model, images = WithoutClassToken().eval(), random_images(5)
    _, seen = observe(model, images)
    with torch.no_grad():
        tokens = model.patches(images).permute(0, 2, 3, 1)
        middle = model.blocks[0](tokens)
        end = model.blocks[1](middle)
    expected = torch.cat([model.blocks[1].norm(middle).mean((1, 2)), end.mean((1, 2))], 1)
    torch.testing.assert_close(seen.groups, [expected])
    torch.testing.assert_close(seen.stem.mean, tokens.mean((0, 1, 2)))


def test_moment_distance_is_zero_at_the_source_and_adds_means_and_deviations():
    features = torch.randn(20, 4, generator=torch.Generator().manual_seed(0))
    source = [batch_moments(features)]
    assert float(moment_distance([features], source)) == 0
    assert float(moment_distance([features + 2], source)) == pytest.approx(4, rel=1e-5)
    spread = source[0].spread
    doubled = features + (features - features.mean(0))
    assert float(moment_distance([doubled], source)) == pytest.approx(float(spread.square().mean()), rel=1e-4)
    assert float(moment_distance([features + 2, features], source * 2)) == pytest.approx(2, rel=1e-5)


def test_one_image_is_compared_by_its_mean_alone():
    distance = moment_distance([torch.full((1, 3), 2.0)], [Moments(torch.zeros(3), torch.ones(3))])
    assert float(distance) == 4.0
