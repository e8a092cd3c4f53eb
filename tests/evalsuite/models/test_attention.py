from __future__ import annotations

import pytest
import torch
from torch import nn

from evalsuite.errors import RequestError
from evalsuite.models.attention import Attention, MatMul


@pytest.mark.parametrize("heads", [1, 2, 6])
def test_agrees_with_torch(heads: int) -> None:
    torch.manual_seed(heads)
    ours, theirs = Attention(12, heads), nn.MultiheadAttention(12, heads, batch_first=True)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(ours.qkv.weight)
        theirs.in_proj_bias.copy_(ours.qkv.bias)
        theirs.out_proj.weight.copy_(ours.proj.weight)
        theirs.out_proj.bias.copy_(ours.proj.bias)
    tokens = torch.randn(3, 5, 12)
    torch.testing.assert_close(ours(tokens), theirs(tokens, tokens, tokens)[0])


def test_every_product_can_be_hooked() -> None:
    attention = Attention(8, 2, bias=False)
    seen = {}
    for name, module in attention.named_children():
        module.register_forward_hook(lambda m, inputs, out, name=name: seen.update({name: out}))
    attention(torch.randn(3, 5, 8))
    shapes = {name: tuple(out.shape) for name, out in seen.items()}
    assert shapes == {
        "qkv": (3, 5, 24),
        "scores": (3, 2, 5, 5),
        "softmax": (3, 2, 5, 5),
        "mix": (3, 2, 5, 4),
        "proj": (3, 5, 8),
    }
    torch.testing.assert_close(seen["softmax"].sum(-1), torch.ones(3, 2, 5))
    assert attention.qkv.bias is None


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(RequestError, match="width 10, 4 heads"):
        Attention(10, 4)


def test_matmul() -> None:
    a, b = torch.randn(2, 3, 4), torch.randn(2, 4, 5)
    torch.testing.assert_close(MatMul()(a, b), torch.einsum("bij,bjk->bik", a, b))
