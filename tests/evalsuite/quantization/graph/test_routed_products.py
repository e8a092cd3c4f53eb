from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from evalsuite.bits import BitPolicy
from evalsuite.errors import Refused
from evalsuite.models.attention import Attention, MatMul
from evalsuite.quantization.graph.routed_products import Routed, route_products
from evalsuite.quantization.grids.layers import QuantLinear, QuantMatMul
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


def data_dependent(self, x):
    q, k, v = F.linear(x, self.qkv.weight, x.mean() * self.bias).chunk(3, dim=-1)
    return (q @ k.transpose(1, 2)).softmax(-1) @ v


@pytest.mark.parametrize(
    ("compute", "what"),
    [
        (lambda self, x: self.table @ x, "bmm|mm"),
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


def test_more_products_than_were_seen_are_refused():
    twin = net(lambda self, x: x @ (x.mT @ x) if len(x) < 3 else x @ (x.mT @ x) @ (x.mT @ x))
    route_products(twin, images(1))
    with pytest.raises(Refused, match="Mixer was opened up with 2 products"):
        twin(images())
