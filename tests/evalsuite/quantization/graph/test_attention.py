from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from evalsuite.bits import BitPolicy
from evalsuite.errors import Refused
from evalsuite.models.attention import Attention, MatMul
from evalsuite.quantization.graph.attention import OpenedAttention, OpenedMultiheadAttention, open_attention
from evalsuite.quantization.graph.hooks import replace_modules
from evalsuite.quantization.graph.trace import trace
from evalsuite.quantization.grids.layers import QuantLayer, QuantMatMul, quantized_layers
from evalsuite.quantization.grids.nonuniform import quantizers_after
from evalsuite.quantization.insert import insert_quantizers
from evalsuite.structure import describe
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


def _vit(**options):
    import timm

    small = {"img_size": 32, "patch_size": 8, "embed_dim": 16, "num_heads": 2, "depth": 2, "num_classes": 4}
    return timm.models.VisionTransformer(**small | options)


def _timm(name, **options):
    import timm

    return timm.create_model(name, num_classes=4, **options)


def _swin(second: bool = False):
    from torchvision.models import SwinTransformer, swin_transformer

    blocks = {"block": swin_transformer.SwinTransformerBlockV2, "downsample_layer": swin_transformer.PatchMergingV2}
    return SwinTransformer([4, 4], 8, [2, 2], [1, 2], [4, 4], num_classes=4, **(blocks if second else {}))


def _torchvision_vit():
    from torchvision.models import VisionTransformer

    return VisionTransformer(32, 8, 2, 2, 16, 32, num_classes=4)


SMALL = {"img_size": 32, "depth": 2, "embed_dim": 24, "num_heads": 2}
WINDOWS = {"img_size": 56, "depths": (2, 2), "embed_dim": 12, "num_heads": (1, 2)}
# Builder, image size, blocks in each stage, tokens that are no patches.
TRANSFORMERS = {
    "torchvision swin": (_swin, 32, (2, 2), 0),
    "torchvision swin, padded": (_swin, 36, (2, 2), 0),
    "torchvision swin v2": (lambda: _swin(True), 32, (2, 2), 0),
    "torchvision vit": (_torchvision_vit, 32, (2,), 1),
    "timm vit": (_vit, 32, (2,), 1),
    "timm vit, norms on queries": (lambda: _vit(qk_norm=True), 32, (2,), 1),
    "timm vit, layer scale, registers": (lambda: _vit(init_values=0.1, reg_tokens=3), 32, (2,), 4),
    "timm deit": (lambda: _timm("deit_tiny_distilled_patch16_224", **SMALL), 32, (2,), 2),
    "timm deit 3": (lambda: _timm("deit3_small_patch16_224", **SMALL), 32, (2,), 1),
    "timm beit": (lambda: _timm("beit_base_patch16_224", **SMALL), 32, (2,), 1),
    "timm eva": (lambda: _timm("eva02_tiny_patch14_224", **SMALL | {"img_size": 28}), 28, (2,), 1),
    "timm swin": (lambda: _timm("swin_tiny_patch4_window7_224", **WINDOWS), 56, (2, 2), 0),
    "timm swin v2": (lambda: _timm("swinv2_tiny_window8_256", **WINDOWS | {"img_size": 64}), 64, (2, 2), 0),
    "timm cait": (lambda: _timm("cait_xxs24_224", **SMALL), 32, (2, 2), 0),
}


@pytest.mark.parametrize(("build", "size", "stages", "prefix"), TRANSFORMERS.values(), ids=TRANSFORMERS)
@torch.no_grad()
def test_every_product_of_known_transformers_is_quantized(build, size, stages, prefix):
    import_torchvision()
    torch.manual_seed(0)
    check(build(), size, stages, prefix)


def check(model: nn.Module, size: int, stages: tuple[int, ...], prefix: int) -> None:
    for parameter in model.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.2)
    model.eval()
    x = images(size)
    twin = insert_quantizers(model, BitPolicy(4, 4), x[:1])
    expected = model(x)
    assert float((twin(x) - expected).abs().max()) <= 1e-5 * float(expected.abs().max())
    found, source = describe(twin, x[:1]), describe(model, x[:1])
    assert found.architecture == "transformer"
    assert tuple(map(len, found.stages)) == stages
    assert (found.blocks, found.prefix_tokens) == (source.blocks, prefix)
    attentions = len(quantizers_after(twin, x[:1], "softmax"))
    assert attentions == sum(stages)
    assert sum(isinstance(module, QuantMatMul) for module in twin.modules()) == 2 * attentions
    modules = dict(twin.named_modules())
    quantized = (QuantLayer, QuantMatMul)
    products = {"addmm", "mm", "bmm", "linear", "matmul", "convolution", "_scaled_dot_product_flash_attention_for_cpu"}
    for operation in trace(twin, x[:1]).operations:
        assert operation.name not in products or isinstance(modules[operation.module], quantized), operation.module


@pytest.mark.slow
@torch.no_grad()
def test_a_published_transformer_at_its_depth():
    torch.manual_seed(0)
    check(import_torchvision().models.swin_t(weights=None), 64, (2, 2, 6, 2), 0)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["regnet_y_400mf", "mobilenet_v3_small", "convnext_tiny"])
@torch.no_grad()
def test_torchvisions_cnns(name):
    torch.manual_seed(0)
    model = import_torchvision().models.get_model(name, weights=None).eval()
    x = images(64)
    twin = insert_quantizers(model, BitPolicy(4, 4), x[:1])
    torch.testing.assert_close(twin(x), model(x), rtol=1e-4, atol=1e-6)
    assert describe(twin, x[:1]).blocks == describe(model, x[:1]).blocks
    assert len(quantized_layers(twin)) == len(describe(model, x[:1]).layers)
