from __future__ import annotations

import dataclasses
from functools import cache

import numpy as np
import pytest
import torch
from _dummies.models import random_images
from _dummies.small import small_cnn
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import evalsuite
from evalsuite.bits import BitPolicy
from evalsuite.exporting.graph import OPSET, marked_graph, packed, with_grids
from evalsuite.exporting.grids import grids_of
from evalsuite.models.vit import VisionTransformer
from evalsuite.quantization.grids.layers import quantized_layers
from evalsuite.quantizers.rtn import RoundToNearest
from evalsuite.randomness import torch_generator

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
numpy_helper = onnx.numpy_helper
ReferenceEvaluator = pytest.importorskip("onnx.reference").ReferenceEvaluator

CALIBRATION, X = random_images(24, seed=1), random_images(24, seed=2)
POLICIES = {
    "W8A8": BitPolicy(8, 8, fold_norm=True),
    "W8A8 symmetric": BitPolicy(8, 8, symmetric=True, symmetric_activations=True, fold_norm=True),
    "W4A8 per tensor": BitPolicy(4, 8, per_channel=False, fold_norm=True),
    "W4A4": BitPolicy(4, 4, first_last_bits=4, symmetric=True, fold_norm=True),
    "W3A5": BitPolicy(3, 5, first_last_bits=5, fold_norm=True),
}


def transformer() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return VisionTransformer(16, 4, width=12, depth=1, heads=2, hidden=24, classes=5).eval()


NETWORKS = {"cnn": (small_cnn, "4"), "transformer": (transformer, "head")}


@cache
def simulated(network, policy):
    model = RoundToNearest().insert(NETWORKS[network][0](), POLICIES[policy], X[:1])
    RoundToNearest().calibrate(model, CALIBRATION, torch_generator(0))
    return model


@cache
def marked(network):
    """Export once what bits do not change."""
    model = simulated(network, "W8A8")
    return marked_graph(model, X[:1], grids_of(model))


def graph(network, policy):
    return with_grids(marked(network), grids_of(simulated(network, policy)))


@pytest.mark.parametrize(
    ("network", "policy"),
    [
        *(("cnn", policy) for policy in POLICIES),
        *(("transformer", each) for each in ("W8A8", "W4A8 per tensor", "W4A4")),
    ],
)
def test_the_graph_computes_what_is_simulated(network, policy):
    model, exported, (_, head) = simulated(network, policy), graph(network, policy), NETWORKS[network]
    read = onnx.load_from_string(exported.content)
    last = f"{head}.input_quantizer"  # the last grid
    read.graph.output.append(onnx.helper.make_tensor_value_info(last, onnx.TensorProto.FLOAT, None))
    logits, found = ReferenceEvaluator(read).run(None, {"images": X.numpy()})
    seen = {}
    quantizer = model.get_submodule(last)
    quantizer.register_forward_hook(lambda module, args, out: seen.update(out=out))
    with torch.no_grad():
        expected = model(X)
    steps = (seen["out"].numpy().reshape(found.shape) - found) / float(quantizer.scale)
    assert np.mean(np.abs(steps) < 1.5) >= 0.999
    exact = np.abs(steps).reshape(len(X), -1).max(axis=1) < 0.5
    assert exact.mean() > 0.8
    np.testing.assert_allclose(logits[exact], expected.numpy()[exact], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("policy", POLICIES)
def test_integers_scales_and_zero_points_are_the_learnt_ones(policy):
    model, read = simulated("cnn", policy), onnx.load_from_string(graph("cnn", policy).content)
    tensors = {tensor.name: tensor for tensor in read.graph.initializer}
    bits = POLICIES[policy]
    for name, layer in quantized_layers(model).items():
        stored = tensors[f"{name}.weight.integers"]
        kind = f"{'' if bits.symmetric else 'U'}INT{4 if layer.weight_bits <= 4 else 8}"
        assert onnx.TensorProto.DataType.Name(stored.data_type) == kind
        assert len(stored.raw_data) == -(-layer.weight.numel() * (4 if layer.weight_bits <= 4 else 8) // 8)
        integers = numpy_helper.to_array(stored).astype(int)
        integers = integers.T if isinstance(layer, nn.Linear) else integers
        assert np.array_equal(integers, layer.integer_weight())
        for part in ("scale", "zero_point"):
            found = numpy_helper.to_array(tensors[f"{name}.weight.{part}"]).astype(float)
            assert found.shape == ((len(layer.weight),) if bits.per_channel else ())
            assert np.array_equal(found.reshape(-1), getattr(layer, f"weight_{part}").double())
        assert f"{name}.weight" not in tensors
    clipped = sum(node.op_type == "Clip" for node in read.graph.node)
    assert (clipped > 0) == (policy == "W3A5")


def test_the_file_says_what_it_is():
    read = onnx.load_from_string(graph("cnn", "W8A8").content)
    assert [(each.domain, each.version) for each in read.opset_import] == [("", OPSET)]
    assert (read.producer_name, read.producer_version) == ("evalsuite", evalsuite.__version__)
    assert {node.domain for node in read.graph.node} <= {""}
    shape = read.graph.input[0].type.tensor_type.shape.dim
    assert not shape[0].HasField("dim_value")
    assert graph("cnn", "W8A8").content == read.SerializeToString(deterministic=True)


@given(st.lists(st.integers(-8, 7), max_size=9), st.sampled_from([4, 8, 16]))
@settings(deadline=None, max_examples=50)
def test_packed_integers_are_read_back(values, width):
    integers = np.array(values, np.int32)
    kind = getattr(onnx.TensorProto, f"INT{width}")
    tensor = onnx.helper.make_tensor("t", kind, integers.shape, packed(integers, width), raw=True)
    assert numpy_helper.to_array(tensor).astype(int).tolist() == values


def test_integers_of_sixteen_bits_are_packed_without_a_sign():
    tensor = onnx.helper.make_tensor("t", onnx.TensorProto.UINT16, (2,), packed(np.array([0, 65535]), 16), raw=True)
    assert numpy_helper.to_array(tensor).tolist() == [0, 65535]


def test_a_grid_takes_the_narrowest_integers_that_hold_it():
    grid = next(iter(grids_of(simulated("cnn", "W8A8")).values()))
    found = {
        (low, high): dataclasses.replace(grid, reach=grid.reach._replace(low=low, high=high))
        for low, high in ((0, 3), (0, 15), (-8, 7), (0, 31), (0, 255), (0, 256), (-512, 511))
    }
    types = [(each.type, each.fills) for each in found.values()]
    expected = [("uint4", False), ("uint4", True), ("int4", True), ("uint8", False), ("uint8", True)]
    assert types == [*expected, ("uint16", False), ("int16", False)]
