from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from evalsuite import quantize
from evalsuite.bits import BitPolicy
from evalsuite.errors import Refused
from evalsuite.models.attention import Attention, MatMul
from evalsuite.quantization.graph.routed_products import Routed, route_products
from evalsuite.quantization.grids.layers import QuantConv2d, QuantLinear, QuantMatMul
from evalsuite.quantization.insert import insert_quantizers


class Net(nn.Module):
    """16 patches of an image as tokens, a mixer of them, a classifier."""

    def __init__(self, mixer: nn.Module) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 4, 4)
        self.mixer = mixer
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        return self.head(self.mixer(self.patches(x).flatten(2).transpose(1, 2)).mean(1))


class Mixer(nn.Module):
    """Computes the function that it is given, of itself and the tokens."""

    def __init__(self, compute) -> None:
        super().__init__()
        self.qkv = nn.Linear(8, 24, bias=False)
        self.bias = nn.Parameter(torch.randn(24))
        self.table = nn.Parameter(torch.randn(16, 16))
        self.compute = compute

    def forward(self, x):
        return self.compute(self, x)


def qkv(self, x):
    return self.qkv(x).chunk(3, dim=-1)


def attend(self, x, **options):
    q, k, v = qkv(self, x)
    return F.scaled_dot_product_attention(q, k, v, **options)


def biased(self, x):
    q, k, v = qkv(self, x)
    return (q @ k.mT + self.table).softmax(-1).matmul(v)


def normed(self, x):
    q, k, v = qkv(self, x)
    scores = torch.bmm(F.normalize(q, dim=-1), F.normalize(k, dim=-1).transpose(1, 2))
    return torch.matmul((5 * scores).softmax(-1), v)


def functional(self, x):
    """The layer's weight with a bias of parameters that is not the layer's."""
    q, k, v = F.linear(x, self.qkv.weight, self.bias * 2).chunk(3, dim=-1)
    return (q @ k.transpose(1, 2)).softmax(-1) @ v


def images(n: int = 3) -> torch.Tensor:
    return torch.randn(n, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def net(compute) -> Net:
    torch.manual_seed(0)
    return Net(Mixer(compute)).eval()


MASK = torch.ones(16, 16, dtype=torch.bool).tril(2)

ROUTED = {
    "fused": attend,
    "causal": lambda self, x: attend(self, x, is_causal=True),
    "mask": lambda self, x: attend(self, x, attn_mask=MASK),
    "bias": lambda self, x: attend(self, x, attn_mask=self.table, scale=0.7),
    "positions": biased,
    "cosine": normed,
    "functional": functional,
    "data with itself": lambda self, x: self.qkv(x)[..., :8] + x @ (x.mT @ x),
}


@pytest.mark.parametrize("compute", ROUTED.values(), ids=ROUTED)
def test_products_are_routed_and_compute_the_same(compute):
    model = net(compute)
    twin = copy.deepcopy(model)
    route_products(twin, images(1))
    assert isinstance(twin.mixer.forward, Routed)
    assert type(twin.mixer) is Mixer
    assert len(twin.mixer.products) == 2
    torch.testing.assert_close(twin(images()), model(images()), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("compute", ROUTED.values(), ids=ROUTED)
def test_routed_products_are_quantized_in_a_copy_of_their_own(compute):
    model = net(compute)
    twin = insert_quantizers(model, BitPolicy(4, 4), images(1))
    assert [type(one) for one in twin.mixer.products] == [QuantMatMul, QuantMatMul]
    assert isinstance(twin.mixer.qkv, QuantLinear)
    torch.testing.assert_close(twin(images()), model(images()), rtol=1e-4, atol=1e-6)
    assert "products" not in dict(model.mixer.named_children())
    other = copy.deepcopy(twin)
    assert other.mixer.forward.module is other.mixer
    seen = []
    other.mixer.products[1].register_forward_hook(lambda *_: seen.append("product"))
    other.mixer.qkv.register_forward_hook(lambda *_: seen.append("layer"))
    twin(images())
    assert seen == []
    other(images())
    assert seen == ["layer", "product"]


def test_a_bias_made_of_parameters_becomes_the_layers_own():
    model = net(functional)
    twin = insert_quantizers(model, BitPolicy(), images(1))
    assert torch.equal(twin.mixer.qkv.bias, 2 * model.mixer.bias)
    assert model.mixer.qkv.bias is None


BY_WEIGHT = {
    "of tokens": (lambda self, x: (self.qkv(x)[..., :8] @ self.table[:8] @ self.table[:, 8:]).relu(), 2),
    "over tokens": (lambda self, x: self.table @ self.qkv(x)[..., :8], 1),
    "turned": (lambda self, x: torch.einsum("ntd,ed->nte", self.qkv(x)[..., :16], self.table)[..., :8], 1),
}


@pytest.mark.parametrize(("compute", "products"), BY_WEIGHT.values(), ids=BY_WEIGHT)
def test_a_product_by_a_parameter_is_a_linear_layer(compute, products):
    model = net(compute)
    twin = insert_quantizers(model, BitPolicy(2, 8), images(1))
    torch.testing.assert_close(twin(images()), model(images()), rtol=1e-4, atol=1e-6)
    layers = [one.layer for one in twin.mixer.products]
    assert [type(layer) for layer in layers] == [QuantLinear] * products
    assert all(torch.isin(layer.weight, model.mixer.table).all() for layer in layers)
    quantized = quantize(model, images(), method="rtn", weight_bits=2, activation_bits=8)
    for layer in (one.layer for one in quantized.mixer.products):
        assert all(len(row.unique()) <= 4 for row in layer.weight)  # each row has a scale of its own


class Blur(nn.Module):
    """Convolves by a kernel that it keeps as a buffer, in the way that it is told."""

    def __init__(self, convolve) -> None:
        super().__init__()
        self.inner = nn.Conv2d(3, 4, 3)
        self.register_buffer("kernel", torch.tensor([1.0, 2.0, 1.0]).expand(4, 1, 3, 3) / 12)
        self.convolve = convolve
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        return self.head(self.convolve(self, self.inner(x)).mean((2, 3)))


BLURS = {
    "options in order": lambda self, x: F.conv2d(x, self.kernel, None, 2, 1, 1, 4),
    "options by name": lambda self, x: F.conv2d(F.pad(x, [1] * 4, "reflect"), self.kernel, stride=2, groups=4),
    "a part": lambda self, x: F.conv2d(x, self.kernel[:1].expand(4, 1, 3, 3), groups=4),
}


@pytest.mark.parametrize("convolve", BLURS.values(), ids=BLURS)
def test_a_convolution_by_a_kernel_of_its_own_is_a_layer(convolve):
    torch.manual_seed(0)
    model = Blur(convolve).eval()
    twin = insert_quantizers(model, BitPolicy(), images(1))
    assert [type(one) for one in twin.products] == [QuantConv2d]
    torch.testing.assert_close(twin(images()), model(images()), rtol=1e-4, atol=1e-6)
    assert "forward" not in vars(model)


def data_dependent(self, x):
    q, k, v = F.linear(x, self.qkv.weight, x.mean() * self.bias).chunk(3, dim=-1)
    return (q @ k.transpose(1, 2)).softmax(-1) @ v


@pytest.mark.parametrize(
    ("compute", "what"),
    [
        (lambda self, x: self.qkv(x)[..., :8] @ self.table.view(4, 8, 8)[: len(x)], "bmm"),
        (lambda self, x: torch.einsum("ntd,nsd,nse->nte", x, x, x), "bmm"),
        (data_dependent, "linear|addmm|mm"),
        (lambda self, x: F.linear(x, self.qkv.weight[:8]), "linear|mm"),
    ],
)
def test_what_cannot_be_routed_is_refused_by_name_and_left_as_it_was(compute, what):
    model = net(compute)
    twin = copy.deepcopy(model)
    route_products(twin, images(1))
    assert "forward" not in vars(twin.mixer)
    assert twin.mixer.qkv.bias is None
    with pytest.raises(Refused, match=rf"^mixer \(Mixer\) computes (\w*{what})"):
        insert_quantizers(model, BitPolicy(), images(1))


def test_products_around_a_module_with_products_of_its_own_are_refused():
    class Around(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Attention(8, 2)

        def forward(self, x):
            return self.inner(x) @ (x.mT @ x)

    torch.manual_seed(0)
    model = Net(Around()).eval()
    with pytest.raises(Refused, match=r"^mixer \(Around\)"):
        insert_quantizers(model, BitPolicy(), images(1))
    assert isinstance(model.mixer.inner.scores, MatMul)


def test_products_of_a_module_in_another_are_all_the_outer_one_s():
    class Around(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Mixer(lambda self, x: self.qkv(x)[..., :16] @ self.table)

        def forward(self, x):
            return self.inner(x) @ x

    torch.manual_seed(0)
    model = Net(Around()).eval()
    twin = insert_quantizers(model, BitPolicy(), images(1))
    assert [type(one) for one in twin.mixer.products[1:]] == [QuantMatMul]
    assert isinstance(twin.mixer.products[0].layer, QuantLinear)
    torch.testing.assert_close(twin(images()), model(images()), rtol=1e-4, atol=1e-6)


def test_more_products_than_were_seen_are_refused():
    twin = net(lambda self, x: x @ (x.mT @ x) if len(x) < 3 else x @ (x.mT @ x) @ (x.mT @ x))
    route_products(twin, images(1))
    with pytest.raises(Refused, match="Mixer was opened up with 2 products"):
        twin(images())
