import pytest
import torch
import torch.nn.functional as F
from _dummies.models import random_images, tiny_resnet, tiny_transformer
from torch import nn

from evalsuite.errors import RequestError
from evalsuite.structure import describe
from evalsuite.torchvision_compat import import_torchvision


def test_a_residual_cnn():
    found = describe(tiny_resnet(), random_images(2))
    assert found.architecture == "cnn"
    assert found.stem == "conv1"
    assert found.head == "fc"
    assert found.stages == (("layer1.0", "layer1.1"), ("layer2.0", "layer2.1"), ("layer3.0", "layer3.1"))
    assert found.blocks == sum(found.stages, ())
    assert found.layers[:3] == ("conv1", "layer1.0.conv1", "layer1.0.conv2")
    assert found.norms[:2] == ("bn1", "layer1.0.bn1")
    assert found.shortcut_norms == ("layer2.0.shortcut.1", "layer3.0.shortcut.1")
    assert found.block_norms["layer2.0"] == ("layer2.0.bn1", "layer2.0.bn2", "layer2.0.shortcut.1")
    assert found.block_shapes["layer3.1"] == (16, 4, 4)
    assert found.prefix_tokens == 0
    assert found.units == ("conv1", *found.blocks, "fc")


def test_a_transformer():
    found = describe(tiny_transformer(), random_images(2))
    assert found.architecture == "transformer"
    assert (found.stem, found.head) == ("patches", "head")
    assert found.blocks == tuple(f"blocks.{i}" for i in range(4))
    assert found.stages == (found.blocks,)
    assert found.prefix_tokens == 1
    assert found.following_norms == {
        "blocks.0": "blocks.1.norm1",
        "blocks.1": "blocks.2.norm1",
        "blocks.2": "blocks.3.norm1",
        "blocks.3": "norm",
    }
    assert found.shortcut_norms == ()


def test_the_model_is_left_as_it_was_found():
    model = tiny_resnet()
    model.layer1.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    describe(model, random_images(2))
    assert [module.training for module in model.modules()] == modes
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


class ShortcutFirst(nn.Module):
    """Its shortcut runs before the main path, and is pooled first: order and input identity say nothing."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.down = nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(inputs, outputs, 1), nn.BatchNorm2d(outputs))
        self.a = nn.Sequential(nn.Conv2d(inputs, outputs, 3, 2, 1), nn.BatchNorm2d(outputs))
        self.b = nn.Sequential(nn.Conv2d(outputs, outputs, 3, 1, 1), nn.BatchNorm2d(outputs))
        self.squeeze = nn.Sequential(nn.Conv2d(outputs, 2, 1), nn.ReLU(), nn.Conv2d(2, outputs, 1), nn.Sigmoid())

    def forward(self, x):
        identity = self.down(x)
        y = self.b(F.relu(self.a(x)))
        return F.relu(y * self.squeeze(y.mean((2, 3), keepdim=True)) + identity)


def test_shortcut_norms_follow_the_flow_of_data_not_the_order_of_execution():
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, 1, 1), ShortcutFirst(4, 6), ShortcutFirst(6, 8), nn.Flatten(), nn.LazyLinear(2)
    )
    model(random_images(2))
    found = describe(model, random_images(2))
    assert found.blocks == ("1", "2")
    assert found.norms[0] == "1.down.2"
    assert found.shortcut_norms == ("1.down.2", "2.down.2")


class AsAttributes(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, 1, 1)
        self.first = ShortcutFirst(4, 4)
        self.second = ShortcutFirst(4, 4)
        self.last = nn.Conv2d(4, 2, 1)

    def forward(self, x):
        return self.last(self.second(self.first(self.stem(x)))).mean((2, 3))


def test_blocks_that_are_attributes_and_a_convolution_as_classifier():
    found = describe(AsAttributes(), random_images(1))
    assert found.blocks == ("first", "second")
    assert found.head == "last"


def test_a_wrapped_model_has_the_blocks_of_the_model():
    wrapped = nn.Sequential(nn.Identity(), tiny_resnet())
    plain = describe(tiny_resnet(), random_images(1))
    assert describe(wrapped, random_images(1)).blocks == tuple(f"1.{name}" for name in plain.blocks)


def test_a_plain_chain_has_no_blocks():
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Sequential(nn.Conv2d(4, 4, 3), nn.Flatten()), nn.LazyLinear(3)
    )
    model(random_images(1))
    found = describe(model, random_images(1))
    assert found.blocks == ()
    assert found.stages == ()
    assert found.architecture == "cnn"
    assert found.units == found.layers == ("0", "2.0", "3")


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 3, 1)
        self.shared = nn.Conv2d(3, 3, 1)
        self.middle = nn.Conv2d(3, 3, 1)
        self.unused = nn.Conv2d(3, 3, 1)

    def forward(self, x):
        return self.shared(self.middle(self.shared(self.stem(x)))).mean((2, 3))


def test_a_layer_called_twice_counts_once_and_one_never_called_not_at_all():
    assert describe(Twice(), random_images(1)).layers == ("stem", "shared", "middle")


def test_bad_requests():
    with pytest.raises(RequestError, match=r"\(3, 16, 16\): expected"):
        describe(tiny_resnet(), random_images(1)[0])
    with pytest.raises(RequestError, match="fails on an input of shape"):
        describe(tiny_resnet(), torch.zeros(1, 4, 16, 16))
    with pytest.raises(RequestError, match="no Conv1d, Conv2d or Linear"):
        describe(nn.Flatten(), random_images(1))


@pytest.mark.parametrize(
    ("name", "stages", "shortcuts"),
    [
        ("resnet18", (2, 2, 2, 2), 3),
        ("resnet50", (3, 4, 6, 3), 4),
        ("mobilenet_v2", (1, 2, 3, 4, 3, 3, 1), 0),
        ("regnet_y_400mf", (1, 3, 6, 6), 4),
        ("shufflenet_v2_x0_5", (4, 8, 4), 3),
        ("vgg11_bn", (), 0),
    ],
)
def test_torchvision_cnns(name, stages, shortcuts):
    import_torchvision()
    from torchvision import models

    found = describe(
        models.get_model(name, weights=None, init_weights=False)
        if name.startswith("vgg")
        else models.get_model(name, weights=None),
        torch.randn(1, 3, 64, 64),
    )
    assert found.architecture == "cnn"
    assert tuple(map(len, found.stages)) == stages
    assert len(found.shortcut_norms) == shortcuts


@pytest.mark.parametrize(
    ("name", "stages", "prefix"), [("vit", (2,), 1), ("swin", (1, 2), 0), ("timm", (3,), 1), ("distilled", (2,), 2)]
)
def test_library_transformers(name, stages, prefix):
    torchvision = import_torchvision()
    import timm

    vit = {"img_size": 32, "patch_size": 8, "embed_dim": 16, "num_heads": 2, "num_classes": 4}
    build = {
        "vit": lambda: torchvision.models.VisionTransformer(32, 8, 2, 2, 16, 32, num_classes=4),
        "swin": lambda: torchvision.models.SwinTransformer([4, 4], 8, [1, 2], [2, 2], [2, 2], num_classes=4),
        "timm": lambda: timm.models.VisionTransformer(**vit, depth=3),
        "distilled": lambda: timm.models.deit.VisionTransformerDistilled(**vit, depth=2),
    }
    found = describe(build[name]().eval(), torch.randn(1, 3, 32, 32))
    assert found.architecture == "transformer"
    assert tuple(map(len, found.stages)) == stages
    assert found.prefix_tokens == prefix
    assert set(found.following_norms) == set(found.blocks)
