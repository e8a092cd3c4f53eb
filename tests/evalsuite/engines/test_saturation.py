"""Engines add products of 8-bit integers without losing any, on processors with instructions for that and without."""

import pytest
import torch
from torch import nn

from evalsuite import quantize
from evalsuite.engines import engine_named
from evalsuite.exporting.graph import exported

pytest.importorskip("onnx")

NETWORKS = {
    "linear": [nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 4)],
    "convolution": [nn.Conv2d(4, 32, 3), nn.ReLU(), nn.Conv2d(32, 32, 1), nn.ReLU(), nn.Flatten(), nn.Linear(128, 4)],
}


def logits(name, engines, **bits):
    """Return logits by simulation and by engines of a network all of whose products are as great as their grids say."""
    images = torch.rand(16, 4, 4, 4, generator=torch.Generator().manual_seed(0)) * 0.1 + 0.9
    network = nn.Sequential(*NETWORKS[name]).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(float(parameter.ndim > 1))
        quantized = quantize(network, images, method="rtn", range="minmax", symmetric=True, **bits)
        content = exported(quantized, images[:1]).content
        return quantized(images), *(engine_named(engine).start(content)(images) for engine in engines)


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("name", NETWORKS)
def test_sums_of_two_products_beyond_16_bits_are_kept(engine, name):
    pytest.importorskip(engine)
    expected, found = logits(name, [engine], bits="W8A8")
    torch.testing.assert_close(found, expected, rtol=0.01, atol=0)


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("name", NETWORKS)
def test_an_engines_defaults_lose_them_or_not_by_the_processor_and_never_those_of_seven_bits(engine, name):
    pytest.importorskip(engine)
    names = [engine, f"{engine}_defaults"]
    _, exact, by_default = logits(name, names, bits="W8A8")
    share = by_default / exact
    assert bool(((share - 1).abs() < 0.01).all()) or bool((share < 0.9).all())
    expected, by_default = logits(name, names[1:], bits="W7A8", first_last_bits=7)
    torch.testing.assert_close(by_default, expected, rtol=0.01, atol=0)
