from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from evalsuite.errors import Refused
from evalsuite.models.attention import Attention, MatMul
from evalsuite.quantization.attention import (
    OpenedAttention,
    OpenedMultiheadAttention,
    open_attention,
    replace_modules,
)
from evalsuite.torchvision_compat import import_torchvision


class Tokens(nn.Module):
    """8 patches of an image as tokens, an attention between them, and what it returns."""

    def __init__(self, attention: nn.Module, call) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 4, 4)
        self.attention = attention
        self.call = call

    def forward(self, x):
        return self.call(self.attention, self.patches(x).flatten(2).transpose(1, 2))


def images(size: int) -> torch.Tensor:
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1))


def opened(model: nn.Module, x: torch.Tensor) -> nn.Module:
    twin = copy.deepcopy(model).eval()
    open_attention(twin, x[:1])
    return twin


def same_output(model: nn.Module, x: torch.Tensor, kinds: type, count: int) -> None:
    model.eval()
    twin = opened(model, x)
    assert sum(isinstance(module, kinds) for module in twin.modules()) == count
    assert sum(isinstance(module, MatMul) for module in twin.modules()) == 2 * count
    torch.testing.assert_close(twin(x), model(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "deit_tiny_patch16_224"])
def test_timm_transformers_compute_the_same(name):
    import_torchvision()
    import timm

    torch.manual_seed(0)
    model = timm.create_model(name, img_size=32, depth=2, num_classes=7)
    same_output(model, images(32), OpenedAttention, 2)


def test_torchvision_transformers_compute_the_same():
    vision = import_torchvision()
    torch.manual_seed(0)
    model = vision.models.VisionTransformer(
        image_size=32, patch_size=16, num_layers=2, num_heads=2, hidden_dim=16, mlp_dim=32, num_classes=7
    )
    nn.init.normal_(model.heads.head.weight)  # torchvision begins with zeros, which would hide everything
    same_output(model, images(32), OpenedMultiheadAttention, 2)


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("weights", [{"need_weights": False}, {}, {"average_attn_weights": False}])
def test_multihead_attention_keeps_its_call(batch_first, bias, weights):
    torch.manual_seed(0)
    attention = nn.MultiheadAttention(8, 2, bias=bias, batch_first=batch_first, dropout=0.3)
    model = Tokens(attention, lambda attend, x: attend(x, x, x, **weights)).eval()
    twin = opened(model, images(16))
    assert isinstance(twin.attention, OpenedMultiheadAttention)
    out, seen = twin(images(16))
    expected, expected_seen = model(images(16))
    torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-6)
    assert (seen is None) == (expected_seen is None)
    if seen is not None:
        torch.testing.assert_close(seen, expected_seen, rtol=1e-4, atol=1e-6)


def test_torchs_encoder_leaves_its_fused_kernel():
    torch.manual_seed(0)
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2)
    same_output(Tokens(encoder, lambda encode, x: encode(x)), images(16), OpenedMultiheadAttention, 2)


class Biased(nn.Module):
    """Looks like timm's attention, but adds a bias to the scores."""

    def __init__(self, bias: float) -> None:
        super().__init__()
        self.num_heads = 2
        self.qkv = nn.Linear(8, 24)
        self.proj = nn.Linear(8, 8)
        self.bias = bias

    def forward(self, x):
        n, t, d = x.shape
        q, k, v = self.qkv(x).reshape(n, t, 3, 2, 4).permute(2, 0, 3, 1, 4)
        scores = q @ k.transpose(-2, -1) / 2 + self.bias * torch.arange(float(t))
        return self.proj((scores.softmax(-1) @ v).transpose(1, 2).reshape(n, t, d))


def test_what_looks_like_attention_is_opened_only_if_it_computes_the_same():
    torch.manual_seed(0)
    call = lambda attend, x: attend(x)
    assert isinstance(opened(Tokens(Biased(0.0), call), images(16)).attention, OpenedAttention)
    assert isinstance(opened(Tokens(Biased(0.5), call), images(16)).attention, Biased)


@pytest.mark.parametrize(
    ("attention", "call"),
    [
        (nn.MultiheadAttention(8, 2, batch_first=True), lambda attend, x: attend(x, x + 1, x + 1)),
        (nn.MultiheadAttention(8, 2, batch_first=True, add_zero_attn=True), lambda attend, x: attend(x, x, x)),
        (
            nn.MultiheadAttention(8, 2, kdim=5, vdim=5, batch_first=True),
            lambda attend, x: attend(x, x[..., :5], x[..., :5]),
        ),
        (
            nn.MultiheadAttention(8, 2, batch_first=True),
            lambda attend, x: attend(x, x, x, attn_mask=torch.eye(x.shape[1], dtype=torch.bool)),
        ),
        (nn.Sequential(), lambda attend, x: x),
    ],
)
def test_other_attention_is_left_alone(attention, call):
    model = Tokens(attention, call).eval()
    twin = opened(model, images(16))
    assert type(twin.attention) is type(attention)


def test_attention_of_other_widths_is_left_alone():
    torch.manual_seed(0)
    attention = Biased(0.0)
    attention.proj = nn.Linear(8, 12)
    assert isinstance(opened(Tokens(attention, lambda attend, x: attend(x)), images(16)).attention, Biased)


def test_the_projects_own_attention_is_already_open():
    torch.manual_seed(0)
    model = Tokens(Attention(8, 2), lambda attend, x: attend(x)).eval()
    assert type(opened(model, images(16)).attention) is Attention


def test_opened_attention_refuses_masks_and_other_keys():
    x = torch.randn(1, 4, 8)
    with pytest.raises(Refused, match="without masks"):
        OpenedAttention(8, 2)(x, attn_mask=torch.zeros(4, 4))
    attention = OpenedMultiheadAttention(8, 2, bias=True, batch_first=True)
    with pytest.raises(Refused, match="without masks"):
        attention(x, x, x, is_causal=True)
    with pytest.raises(Refused, match="self-attention"):
        attention(x, x.clone(), x)


def test_a_module_is_replaced_under_all_its_names():
    shared = nn.ReLU()
    model = nn.Sequential(shared, nn.Sequential(shared), nn.Tanh())
    new = nn.Sigmoid()
    assert replace_modules(model, {shared: new}) is model
    assert model[0] is new
    assert model[1][0] is new
    assert isinstance(model[2], nn.Tanh)
    assert replace_modules(shared, {shared: new}) is new
