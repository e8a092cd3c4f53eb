from __future__ import annotations

import pytest
import torch
from _dummies.models import random_images
from _dummies.small import small_cnn

from evalsuite import quantize
from evalsuite.errors import Refused
from evalsuite.exporting.grids import grids_of
from evalsuite.models.vit import VisionTransformer
from evalsuite.number_formats import number_format
from evalsuite.quantization.grids.layers import ActivationQuantizer, FormatQuantizer

X = random_images(8)


@pytest.mark.parametrize(
    ("method", "options", "named"),
    [
        ("ptq4vit", {}, r"blocks\.0\..* rounds to a twin uniform grid \(PTQ4ViT\)"),
        ("repq_vit", {}, r"blocks\.0\..* rounds to powers of sqrt\(2\) \(RepQ-ViT\)"),
        ("rtn", {"bits": "W8AMXFP8"}, "rounds to MXFP8, a number format"),
        ("rtn", {"bits": "MXFP4"}, "rounds to MXFP.*, a number format"),
        ("rtn", {"bits": "NVFP4", "first_last_bits": 4}, "rounds to NVFP4, a number format"),
        ("rtn", {"per_token": True}, "rounds to a grid of each token's own"),
    ],
)
def test_what_onnx_cannot_say_is_refused_by_name(method, options, named):
    network = quantize(VisionTransformer(16, 4, 12, 1, 2, 24, classes=5).eval(), X[:2], method=method, **options)
    with pytest.raises(
        Refused, match=f"{named}, which QuantizeLinear cannot say: expected a uniform grid, FP8 or FP8-E5M2"
    ):
        grids_of(network)


@pytest.mark.parametrize(("base", "of"), [(ActivationQuantizer, 8), (FormatQuantizer, number_format("FP8"))])
def test_a_quantizer_of_somebody_else_is_refused_by_its_class(base, of):
    class Halving(base):
        def forward(self, x):
            return x / 2

    network = quantize(small_cnn(), X, method="rtn")
    other = Halving(of)
    other.load_state_dict(network[4].input_quantizer.state_dict())
    network[4].input_quantizer = other
    with pytest.raises(Refused, match=r"4\.input_quantizer rounds to a grid of its own \(Halving\)"):
        grids_of(network)


@pytest.mark.parametrize("bits", ["W8A8", "FP8"])
def test_a_weight_that_left_its_grid_is_refused(bits):
    network = quantize(small_cnn(), X, method="rtn", bits=bits)
    with torch.no_grad():
        network[4].weight += 1e-3
    with pytest.raises(Refused, match=r"4\.weight is not rounded to its grid"):
        grids_of(network)


def test_a_network_without_quantized_layers_is_refused():
    with pytest.raises(Refused, match="Sequential has no quantized layer"):
        grids_of(small_cnn())


def test_a_quantizer_that_lets_everything_pass_has_no_grid():
    network = quantize(small_cnn(), X, method="rtn")
    assert "4.input_quantizer" in grids_of(network)
    network[4].input_quantizer.switch(False)
    assert "4.input_quantizer" not in grids_of(network)
