"""What unfolding gives, times the weight, is what torch's convolution gives."""

import pytest
import torch
from torch import nn

from evalsuite.quantization.graph.unfolding import unfolded_input

PADDINGS = [0, 1, (2, 1), "same", "valid"]


@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular"])
@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize(("stride", "dilation"), [(1, 1), (1, 2), (2, 1), ((2, 3), (2, 1))])
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_products_of_unfolded_inputs_are_the_convolution(mode, padding, stride, dilation, groups):
    if padding == "same" and stride != 1:
        pytest.skip("torch has no such convolution")
    torch.manual_seed(0)
    layer = nn.Conv2d(4, 8, (3, 2), stride, padding, dilation, groups, bias=False, padding_mode=mode).double()
    x = torch.randn(2, 4, 9, 8, dtype=torch.double)
    expected = layer(x)
    rows = layer.weight.reshape(groups, 8 // groups, -1)
    result = (rows @ unfolded_input(layer, x)).reshape(expected.shape)
    torch.testing.assert_close(result, expected)
