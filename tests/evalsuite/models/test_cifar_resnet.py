from __future__ import annotations

import pytest
import torch
from torch import nn

from evalsuite.models.cifar_resnet import BasicBlock, PadChannels, PreActivationBlock, PreActivationResNet, ResNet


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def test_parameter_counts_are_the_published_ones() -> None:
    assert parameters(ResNet(blocks=3, classes=10)) == 269_722
    assert parameters(ResNet(blocks=9, classes=10)) == 853_018
    assert parameters(ResNet(blocks=3, classes=10, shortcut="project")) == 272_474
    assert parameters(PreActivationResNet(blocks=4, classes=10)) == 366_938


@pytest.mark.parametrize("shortcut", ["pad", "project"])
def test_resnet_stages(shortcut: str) -> None:
    network = ResNet(blocks=2, classes=7, widths=(8, 16, 32), stem_stride=2, shortcut=shortcut).eval()
    shapes = []
    for stage in (network.layer1, network.layer2, network.layer3):
        stage.register_forward_hook(lambda module, inputs, out: shapes.append(tuple(out.shape[1:])))
    assert network(torch.randn(2, 3, 32, 32)).shape == (2, 7)
    assert shapes == [(8, 16, 16), (16, 8, 8), (32, 4, 4)]


def silent(block: nn.Module) -> nn.Module:
    """The block with a main path that gives zero."""
    nn.init.zeros_(block.conv2.weight)
    return block.eval()


def test_option_a_takes_every_second_pixel_from_the_first_and_pads_both_sides() -> None:
    images = torch.rand(2, 4, 6, 6)
    out = silent(BasicBlock(4, 8, 2, "pad"))(images)
    torch.testing.assert_close(out[:, 2:6], images[:, :, ::2, ::2], rtol=0, atol=0)
    assert out[:, :2].abs().max() == out[:, 6:].abs().max() == 0


def test_basic_block_ends_in_relu_and_keeps_its_input_where_shapes_agree() -> None:
    images = torch.randn(2, 4, 6, 6)
    torch.testing.assert_close(silent(BasicBlock(4, 4, 1, "project"))(images), images.relu())


def test_pre_activation_shortcut_averages_and_appends() -> None:
    images = torch.randn(2, 4, 6, 6)
    out = silent(PreActivationBlock(4, 8, 2, groups=2))(images)
    torch.testing.assert_close(out[:, :4], images.unfold(2, 2, 2).unfold(3, 2, 2).mean((-1, -2)))
    assert out[:, 4:].abs().max() == 0
    same = silent(PreActivationBlock(4, 4, 1, groups=2))(images)
    torch.testing.assert_close(same, images)


def test_group_norm_network_ignores_the_rest_of_the_batch() -> None:
    torch.manual_seed(0)
    network = PreActivationResNet(blocks=1, classes=3, widths=(8, 16, 16)).train()
    images = torch.randn(4, 3, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(network(images)[:1], network(images[:1]))


def test_pad_channels() -> None:
    out = PadChannels(1, 2)(torch.ones(1, 2, 1, 1))
    assert out.flatten().tolist() == [0, 1, 1, 0, 0]
