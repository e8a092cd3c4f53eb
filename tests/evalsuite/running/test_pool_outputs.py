import numpy as np
import pytest
import torch
from _dummies.models import random_images, tiny_resnet, tiny_transformer
from torch import nn

from evalsuite.checksums import append_blank, seal
from evalsuite.errors import DamageWarning, RequestError
from evalsuite.plugins import PoolOutputs
from evalsuite.running.pool_outputs import kept, look


class ConvHead(nn.Module):
    """Classifies by a convolution and averages its map, as SqueezeNet does."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3)
        self.head = nn.Conv2d(6, 5, 1)

    def forward(self, x):
        return self.head(self.stem(x).relu()).mean((2, 3))


class TokenHead(nn.Module):
    """Classifies every token and averages the logits."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 4, 4)
        self.head = nn.Linear(6, 5)

    def forward(self, x):
        return self.head(self.stem(x).flatten(2).transpose(1, 2)).mean(1)


@pytest.mark.parametrize(
    ("build", "head"),
    [(tiny_resnet, "fc"), (tiny_transformer, "head"), (ConvHead, "head"), (TokenHead, "head")],
)
def test_features_are_what_the_classifier_reads(build, head):
    model, images = build().eval(), random_images(10)
    outputs = look(model, images.split(4))
    with torch.no_grad():
        np.testing.assert_allclose(outputs.logits, model(images), atol=1e-5)
        layer = model.get_submodule(head)
        # All four classifiers are linear in the mean of what they read.
        weight = layer.weight.flatten(1)
        np.testing.assert_allclose(torch.tensor(outputs.features) @ weight.T + layer.bias, model(images), atol=1e-5)
    assert outputs.features.shape == (10, weight.shape[1])
    assert not layer._forward_pre_hooks


def test_a_network_that_is_never_shown_anything_is_refused():
    with pytest.raises(RequestError, match="no image to look at"):
        look(tiny_resnet(), [])


def test_the_hook_is_gone_after_a_fault():
    model = tiny_resnet()
    with pytest.raises(RuntimeError):
        look(model, [random_images(2), torch.zeros(2, 4, 16, 16)])
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_outputs_are_kept_in_a_file_and_made_again_if_it_is_broken(tmp_path):
    file, calls = tmp_path / "a" / "outputs.npz", []

    def make():
        calls.append(1)
        return PoolOutputs(np.ones((2, 3), np.float32), np.zeros((2, 4), np.float32))

    for _ in range(2):
        outputs = kept(file, 2, make)
    assert len(calls) == 1
    assert (outputs.logits.shape, outputs.features.shape) == ((2, 3), (2, 4))
    file.write_bytes(file.read_bytes()[:100])
    with pytest.warns(DamageWarning, match="the network looks at the pool again"):
        kept(file, 2, make)
    kept(file, 2, make)
    assert len(calls) == 2
    assert [path.name for path in file.parent.iterdir()] == ["outputs.npz"]


@pytest.mark.parametrize(
    ("logits", "features"),
    [
        (np.ones((1, 3)), np.ones((2, 4))),
        (np.ones((2, 3)), np.ones((3, 4))),
        (np.ones((2, 3)), np.full((2, 4), np.nan)),
        (np.full((2, 3), np.inf), np.ones((2, 4))),
        (np.ones((2, 3), int), np.ones((2, 4))),
        (np.ones(2), np.ones((2, 4))),
    ],
)
def test_outputs_of_other_images_or_none_are_refused_made_or_read(tmp_path, logits, features):
    file, good = tmp_path / "outputs.npz", PoolOutputs(np.ones((2, 3)), np.ones((2, 4)))
    with pytest.raises(RequestError, match="of the pool"):
        kept(file, 2, lambda: PoolOutputs(logits, features))
    assert not file.exists()
    np.savez(file, logits=logits, features=features)
    append_blank(file)
    seal(file)
    with pytest.warns(DamageWarning):
        assert (kept(file, 2, lambda: good).features == good.features).all()
