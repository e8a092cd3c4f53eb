from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from _dummies.models import random_images
from torch import nn

import evalsuite
from evalsuite.errors import RequestError
from evalsuite.exporting.encodings import encodings
from evalsuite.exporting.grids import grids_of
from evalsuite.quantization.grids.layers import activation_quantizers, quantized_layers

pytest.importorskip("onnxscript")
onnx = pytest.importorskip("onnx")

X = random_images(8)


class Counting(nn.Module):
    """A convolution, and a classifier of as many images as ``len`` says."""

    def __init__(self):
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 4, 4, 4), nn.Linear(64, 5)

    def forward(self, x):
        return self.fc(self.conv(x).relu().reshape(len(x), -1))


@pytest.fixture(scope="module")
def network():
    return evalsuite.quantize(Counting(), X, method="rtn", weight_bits=4, activation_bits=8)


@pytest.fixture(scope="module")
def written(network, tmp_path_factory):
    state = {name: value.clone() for name, value in network.state_dict().items()}
    file = evalsuite.export(network, tmp_path_factory.mktemp("out") / "net.onnx", X[:3].numpy())
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())  # it is untouched
    return file


def test_encodings_say_every_grid_in_aimets_schema(network, written):
    said = json.loads(written.with_suffix(".encodings").read_text())
    assert (written.name, said["version"]) == ("net.onnx", "2.0.0")
    grids = {each["name"]: each for each in said["encodings"]}
    assert len(grids) == len(said["encodings"]) == len(quantized_layers(network)) + len(activation_quantizers(network))
    for name, layer in quantized_layers(network).items():
        own = grids[f"{name}.weight"]
        linear = isinstance(layer, nn.Linear)
        assert own["axis"] == int(linear)
        assert own["output_dtype"] == f"uint{4 if layer.weight_bits == 4 else 8}"
        integers = layer.integer_weight().numpy()
        scale, zero = (
            np.array(own[key]).reshape(-1, *[1] * (integers.ndim - 1)) for key in ("y_scale", "y_zero_point")
        )
        np.testing.assert_allclose((integers - zero) * scale, layer.weight.numpy(), rtol=1e-6)
    for name, quantizer in activation_quantizers(network).items():
        assert grids[name]["y_scale"] == pytest.approx(float(quantizer.scale))
        assert (grids[name]["y_zero_point"], grids[name]["output_dtype"]) == (int(quantizer.zero_point), "uint8")
    graph = onnx.load(written).graph
    assert set(grids) <= {name for node in graph.node for name in node.output}
    assert graph.input[0].type.tensor_type.shape.dim[0].dim_value == 1  # of a network that counts its images


def test_other_requests_are_refused_in_a_line_and_leave_nothing(network, tmp_path):
    with pytest.raises(RequestError, match=r"expected a name that ends in \.onnx"):
        evalsuite.export(network, tmp_path / "net.pb", X[:1])
    with pytest.raises(RequestError, match="has no quantized layer"):
        evalsuite.export(Counting(), tmp_path / "float.onnx", X[:1])
    with pytest.raises(RequestError, match=r"expected what evalsuite\.quantize returned"):
        evalsuite.export("net", tmp_path / "float.onnx", X[:1])
    assert not list(tmp_path.iterdir())


def test_encodings_name_eight_bit_floats():
    network = evalsuite.quantize(Counting(), X, method="rtn", bits="WFP8AFP8-E5M2")
    grids = {each["name"]: each for each in encodings(grids_of(network))["encodings"]}
    for name, layer in quantized_layers(network).items():
        own, rounded = grids[f"{name}.weight"], grids[f"{name}.input_quantizer"]
        assert (own["output_dtype"], rounded["output_dtype"]) == ("float8e4m3fn", "float8e5m2")
        assert own["y_scale"] == layer.weight_scale.tolist()
        assert (own["y_zero_point"], rounded["y_zero_point"]) == ([0] * len(layer.weight), 0)
        assert rounded["y_scale"] == pytest.approx(float(layer.input_quantizer.scale))
