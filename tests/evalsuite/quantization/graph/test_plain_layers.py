from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import evalsuite
from evalsuite.bits import BitPolicy
from evalsuite.errors import Refused
from evalsuite.quantization.graph.plain_layers import SamePadding, ZeroPadding
from evalsuite.quantization.grids.layers import QuantConv1d, QuantConv2d, QuantLayer, quantized_layers
from evalsuite.quantization.insert import insert_quantizers


class Standardised(nn.Conv2d):
    """Each output channel's weights have mean 0 and variance 1."""

    def forward(self, x):
        rows = self.weight.flatten(1)
        rows = (rows - rows.mean(1, keepdim=True)) / rows.std(1, keepdim=True)
        return F.conv2d(x, rows.reshape(self.weight.shape), self.bias, self.stride, self.padding)


class Ceil(nn.Conv2d):
    """Gives ceil(size / stride) places: an odd zero goes behind."""

    def forward(self, x):
        zeros = []
        for size, kernel, stride in zip(x.shape[2:], self.kernel_size, self.stride, strict=True):
            total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
            zeros = [total // 2, total - total // 2, *zeros]
        return super().forward(F.pad(x, zeros))


class Uneven(Standardised):
    def forward(self, x):
        return super().forward(F.pad(x, (2, 0, 0, 1)))


class ChannelConvolution(nn.Module):
    """A convolution along the channels scales them."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(1, 1, 3, padding=1, bias=False)

    def forward(self, x):
        return x * self.conv(x.mean((2, 3))[:, None]).sigmoid()[:, 0, :, None, None]


def net(odd: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    first = [nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU()]
    return nn.Sequential(*first, odd, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)).eval()


def images(n: int = 3, side: int = 13) -> torch.Tensor:
    return torch.randn(n, 3, side, side, generator=torch.Generator().manual_seed(1))


def old_weight_norm() -> nn.Module:
    with pytest.warns(FutureWarning):
        return nn.utils.weight_norm(nn.Conv2d(4, 4, 3))


ODD = {
    "standardised": lambda: Standardised(4, 4, 3, padding=1),
    "same": lambda: Ceil(4, 4, 3, 2, groups=2),
    "uneven": lambda: Uneven(4, 4, 3),
    "weight norm": lambda: nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 4, 3)),
    "spectral norm": lambda: nn.utils.parametrizations.spectral_norm(nn.Conv2d(4, 4, 3)),
    "old weight norm": old_weight_norm,
    "channels": ChannelConvolution,
    "one dimension": lambda: nn.Sequential(nn.Flatten(2), nn.Conv1d(4, 4, 3, 2, groups=2), nn.Unflatten(2, (-1, 1))),
}


@pytest.mark.parametrize("build", ODD.values(), ids=ODD)
@pytest.mark.parametrize("fold_norm", [False, True])
def test_inserted_quantizers_compute_what_the_model_does(build, fold_norm):
    model = net(build())
    twin = insert_quantizers(model, BitPolicy(fold_norm=fold_norm), images(1))
    assert len(quantized_layers(twin)) == 3
    torch.testing.assert_close(twin(images()), model(images()), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("side", [12, 13, 14, 17])
@pytest.mark.parametrize("name", ["same", "uneven"])
def test_padding_follows_images_of_other_sizes(name, side):
    model = net(ODD[name]())
    twin = insert_quantizers(model, BitPolicy(), images(1))
    assert isinstance(twin[3].padding, SamePadding if name == "same" else ZeroPadding)
    assert type(twin[3].layer) is QuantConv2d
    torch.testing.assert_close(twin(images(2, side)), model(images(2, side)), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("build", ODD.values(), ids=ODD)
@pytest.mark.parametrize(
    "options",
    [{"method": "rtn", "bias_correction": True}, {"method": "gptq"}, {"method": "brecq", "iterations": 2}],
    ids=lambda options: options["method"],
)
def test_methods_round_all_layers_and_stay_near(build, options):
    model = net(build())
    twin = evalsuite.quantize(model, images(4), bits="W8A8", **options)
    layers = quantized_layers(twin).values()
    assert len(layers) == 3
    for layer in layers:
        assert torch.equal(_on_the_grid(layer), layer.weight)
    with torch.no_grad():
        error = (twin(images()) - model(images())).square().mean() / model(images()).square().mean()
    assert error < 0.01


def _on_the_grid(layer: QuantLayer) -> torch.Tensor:
    scale, zero = layer.weight_scale[:, None], layer.weight_zero_point[:, None]
    return ((layer.integer_weight().flatten(1) - zero) * scale).reshape(layer.weight.shape)


def test_number_formats_lie_along_the_channels_of_one_dimension():
    conv = nn.Conv1d(64, 4, 3)
    twin = evalsuite.quantize(nn.Sequential(nn.Flatten(2), conv), torch.randn(2, 64, 4, 4), method="rtn", bits="MXINT8")
    assert isinstance(twin[1], QuantConv1d)
    assert twin[1].input_quantizer.axis == -2


class Makes(nn.Conv2d):
    """Its weight depends on its input."""

    def forward(self, x):
        return F.conv2d(x, self.weight * x.mean())


class Ones(nn.Conv2d):
    def forward(self, x):
        return super().forward(F.pad(x, (1, 1, 1, 1), value=1.0))


@pytest.mark.parametrize("odd", [Makes(4, 4, 3), Ones(4, 4, 3)])
def test_what_no_plain_layer_computes_is_refused_by_name(odd):
    with pytest.raises(Refused, match=rf"^3 \({type(odd).__name__}\) computes its weight or output"):
        insert_quantizers(net(odd), BitPolicy(), images(1))
