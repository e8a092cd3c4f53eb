from __future__ import annotations

import pytest
import torch
from _dummies.models import random_images
from _dummies.small import small_cnn

from evalsuite import quantize
from evalsuite.errors import Refused
from evalsuite.exporting.grids import grids_of
from evalsuite.models.vit import VisionTransformer
from evalsuite.quantization.grids.layers import ActivationQuantizer

X = random_images(8)


@pytest.mark.parametrize(
    ("method", "options", "named"),
    [
        ("ptq4vit", {}, r"blocks\.0\..* rounds to a twin uniform grid \(PTQ4ViT\)"),
        ("repq_vit", {}, r"blocks\.0\..* rounds to powers of sqrt\(2\) \(RepQ-ViT\)"),
        ("rtn", {"bits": "W8AFP8"}, "rounds to FP8.*, a number format"),
        ("rtn", {"bits": "MXFP4"}, "rounds to MXFP.*, a number format"),
        ("rtn", {"per_token": True}, "rounds to a grid of each token's own"),
    ],
)
def test_what_onnx_cannot_say_is_refused_by_name(method, options, named):
    network = quantize(VisionTransformer(16, 4, 12, 1, 2, 24, classes=5).eval(), X[:2], method=method, **options)
    with pytest.raises(Refused, match=f"{named}, which QuantizeLinear to integers cannot say: expected a uniform grid"):
        grids_of(network)


def test_a_quantizer_of_somebody_else_is_refused_by_its_class():
    class Halving(ActivationQuantizer):
        def forward(self, x):
            return x / 2

    network = quantize(small_cnn(), X, method="rtn")
    other = Halving(8)
    other.load_state_dict(network[4].input_quantizer.state_dict())
    network[4].input_quantizer = other
    with pytest.raises(Refused, match=r"4\.input_quantizer rounds to a grid of its own \(Halving\)"):
        grids_of(network)


def test_a_weight_that_left_its_grid_is_refused():
    network = quantize(small_cnn(), X, method="rtn")
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
