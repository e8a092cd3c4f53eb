"""Adapters that read features, on networks whose images lie along another dimension than the first."""

from __future__ import annotations

import pytest
import torch
from _dummies.arranged import arranged
from _dummies.models import random_images
from torch import nn

import evalsuite

SOURCE, TEST = random_images(16, seed=1), random_images(12, seed=2)


def adapted(network, method, **options):
    model = evalsuite.adapt(network, method, SOURCE, **options)
    return torch.cat([model(TEST), model(TEST)])


@pytest.mark.filterwarnings("ignore::evalsuite.errors.AdaptationWarning")
@pytest.mark.parametrize("method", ["t3a", "lame", "zoa", "foa", "evalsuite.adapters.neo:NEO"])
def test_tokens_first_is_images_first(method):
    options = {"population": 4} if method == "foa" else {}
    first, tokens = (adapted(net, method, **options) for net in arranged("images first", "tokens first"))
    torch.testing.assert_close(tokens, first, rtol=1e-4, atol=1e-4)


@pytest.mark.filterwarnings("ignore::evalsuite.errors.AdaptationWarning")
@pytest.mark.parametrize("method", ["t3a", "lame", "zoa"])
def test_crops_in_the_batch_belong_to_their_image(method):
    (network,) = arranged("two in the batch")
    assert adapted(network, method).shape == (24, 5)


class FlattenedNorm(nn.Module):
    """BatchNorm over all tokens as if they were images, as LeViT has it."""

    def __init__(self, flattened: bool) -> None:
        super().__init__()
        self.flattened = flattened
        self.patch = nn.Conv2d(3, 8, 4, 4)
        self.norm, self.head = nn.BatchNorm1d(8), nn.Linear(8, 3)

    def forward(self, x):
        x = self.patch(x).flatten(2)
        if self.flattened:
            tokens = x.transpose(1, 2)
            x = self.norm(tokens.flatten(0, 1)).reshape_as(tokens).transpose(1, 2)
        else:
            x = self.norm(x)
        return self.head(x.mean(2))


def test_a_prior_in_images_counts_images_where_tokens_share_their_dimension():
    torch.manual_seed(0)
    plain = FlattenedNorm(False).eval()
    flat = FlattenedNorm(True).eval()
    flat.load_state_dict(plain.state_dict())
    first, other = (evalsuite.adapt(net, "bn_adapt", SOURCE, prior=16.0)(TEST * 3) for net in (plain, flat))
    torch.testing.assert_close(other, first, rtol=1e-4, atol=1e-5)
