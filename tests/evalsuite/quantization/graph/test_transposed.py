import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import parametrizations

from evalsuite.bits import BitPolicy
from evalsuite.quantization.graph.transposed import ZerosBetween, turn_transposed
from evalsuite.quantization.grids.layers import QuantConv2d
from evalsuite.quantization.insert import insert_quantizers

KINDS = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d}


@st.composite
def transposed(draw):
    """A transposed convolution of any options, and a batch for it."""
    dimensions, groups = draw(st.sampled_from([1, 2])), draw(st.integers(1, 3))

    def each(low, high):
        return tuple(draw(st.integers(low, high)) for _ in range(dimensions))

    kernel, stride, dilation = each(1, 3), each(1, 3), each(1, 2)
    more = tuple(draw(st.integers(0, max(s, d) - 1)) for s, d in zip(stride, dilation, strict=True))
    sizes = each(2, 5)
    spans = zip(sizes, kernel, stride, dilation, more, strict=True)
    # At most as much as leaves a place: more than the kernel reaches cuts off places of the input.
    most = [((n - 1) * s + d * (k - 1) + o) // 2 for n, k, s, d, o in spans]
    padding = tuple(draw(st.integers(0, limit)) for limit in most)
    inputs, outputs = groups * draw(st.integers(1, 2)), groups * draw(st.integers(1, 2))
    torch.manual_seed(draw(st.integers(0, 9)))
    layer = KINDS[dimensions](
        inputs, outputs, kernel, stride, padding, more, groups, bias=draw(st.booleans()), dilation=dilation
    )
    return layer.eval(), torch.randn(2, inputs, *sizes)


@given(transposed())
def test_zeros_and_a_turned_kernel_compute_the_same(drawn):
    layer, x = drawn
    plain = turn_transposed(nn.Sequential(layer), x)[0]
    assert type(plain.spread) is ZerosBetween
    torch.testing.assert_close(plain(x), layer(x), rtol=1e-4, atol=1e-5)


class Net(nn.Module):
    def __init__(self, layer, **options) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.up = layer
        self.head = nn.Linear(6, 2)
        self.options = options

    def forward(self, x):
        return self.head(self.up(self.stem(x).relu(), **self.options).mean((2, 3)))


def test_a_network_with_one_is_quantized_in_a_copy():
    torch.manual_seed(0)
    model, images = Net(nn.ConvTranspose2d(4, 6, 4, 2, 1)).eval(), torch.randn(3, 3, 8, 8)
    before = copy.deepcopy(model.state_dict())
    twin = insert_quantizers(model, BitPolicy(4, 4), images[:1])
    assert type(twin.up.layer) is QuantConv2d
    torch.testing.assert_close(twin(images), model(images), rtol=1e-4, atol=1e-5)
    assert type(model.up) is nn.ConvTranspose2d
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


class OwnTransposed(nn.ConvTranspose2d):
    pass


@pytest.mark.parametrize(
    "model",
    [
        Net(nn.ConvTranspose2d(4, 6, 2, 2), output_size=(8, 8)),
        Net(parametrizations.weight_norm(nn.ConvTranspose2d(4, 6, 2, 2))),
        Net(OwnTransposed(4, 6, 2, 2)),
    ],
    ids=["size given", "computed weight", "class of its own"],
)
def test_what_is_not_plain_stays_as_it_is(model):
    up = model.up
    assert turn_transposed(model.eval(), torch.randn(1, 3, 4, 4)).up is up
