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
from evalsuite.engines.deploy import deploy
from evalsuite.errors import ReasonCode, Refused
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
    "W4A4 symmetric": BitPolicy(4, 4, 4, symmetric=True, symmetric_activations=True, fold_norm=True),
}
FLOATS = {
    "FP8": BitPolicy(weight_format="FP8", activation_format="FP8", fold_norm=True),
    "FP8-E5M2": BitPolicy(weight_format="FP8-E5M2", activation_format="FP8-E5M2", fold_norm=True),
    "FP8 per tensor": BitPolicy(weight_format="FP8", activation_format="FP8", per_channel=False, fold_norm=True),
    "WFP8-E5M2AFP8": BitPolicy(weight_format="FP8-E5M2", activation_format="FP8", fold_norm=True),
    "W4AFP8": BitPolicy(4, activation_format="FP8", fold_norm=True),
}
TYPES = {"FP8": torch.float8_e4m3fn, "FP8-E5M2": torch.float8_e5m2}


def cnn() -> nn.Module:
    """Return one whose channels have biases of either sign, large beside the products."""
    model = small_cnn()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.bias.copy_(torch.linspace(-1, 1, len(module.bias)))
    return model


def transformer() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return VisionTransformer(16, 4, width=12, depth=1, heads=2, hidden=24, classes=5).eval()


NETWORKS = {"cnn": (cnn, "4"), "transformer": (transformer, "head")}


@cache
def simulated(network, policy):
    model = RoundToNearest().insert(NETWORKS[network][0](), (POLICIES | FLOATS)[policy], X[:1])
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
    quantizer, (found, expected), logits = at_the_last_grid(network, policy)
    check_steps(np.abs(expected - found) / float(quantizer.scale), logits)


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("policy", FLOATS)
def test_a_graph_of_floats_computes_what_is_simulated(network, policy):
    quantizer, values, logits = at_the_last_grid(network, policy)
    found, expected = (floats_below(each / float(quantizer.scale), TYPES[quantizer.format.name]) for each in values)
    assert len(np.unique(expected)) > 15
    check_steps(np.abs(found - expected), logits)


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("policy", FLOATS)
def test_every_grid_of_floats_gives_of_its_input_what_the_simulation_gives(network, policy):
    """Bit for bit: what differs at later grids of a network is how its sums are rounded."""
    model, made = simulated(network, policy), graph(network, policy)
    read = onnx.load_from_string(made.content)
    given = {node.output[0]: node.input[0] for node in read.graph.node if node.op_type == "QuantizeLinear"}
    pairs = {node.output[0]: given[node.input[0]] for node in read.graph.node if node.input[0] in given}
    asked = sorted({*pairs, *pairs.values()} - {"images"})
    values = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in asked]
    read.graph.output.extend(values)
    _, *found = ReferenceEvaluator(read).run(None, {"images": X.numpy()})
    seen = {name: torch.from_numpy(each) for name, each in zip(asked, found, strict=True)} | {"images": X}
    assert len(pairs) == sum(grid.codes is None for grid in made.grids.values())
    for out, entered in pairs.items():
        with torch.no_grad():
            assert torch.equal(seen[out], model.get_submodule(made.grids[out].name)(seen[entered]))


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("policy", [*FLOATS, "W4A4 symmetric"])
def test_onnxruntime_computes_what_is_simulated(network, policy):
    pytest.importorskip("onnxruntime")
    found = deploy(graph(network, policy).content, "onnxruntime", X[:1])(X)
    with torch.no_grad():
        expected = simulated(network, policy)(X)
    close = torch.isclose(found, expected, rtol=1e-4, atol=1e-5).all(dim=1)
    assert close.float().mean() > 0.8


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("policy", ["FP8", "FP8-E5M2", "W4AFP8"])
def test_openvino_agrees_with_the_simulation_or_says_why_it_cannot(network, policy):
    pytest.importorskip("openvino")
    with torch.no_grad():
        expected = simulated(network, policy)(X)
    refused = None
    try:
        found = deploy(graph(network, policy).content, "openvino", X[:1])(X)
    except Refused as error:  # of releases that do not know the types
        refused = error
    if refused is not None:
        assert refused.code is ReasonCode.UNSUPPORTED_OPERATION
        assert "QuantizeLinear" in str(refused)
        assert "\n" not in str(refused)
        return
    assert (found.argmax(1) == expected.argmax(1)).float().mean() > 0.9
    assert (found - expected).abs().mean() < 0.05 * expected.std()


def at_the_last_grid(network, policy):
    """Return its quantizer and, by onnx's reference evaluator and by the simulation, its values and the logits."""
    model, read = simulated(network, policy), onnx.load_from_string(graph(network, policy).content)
    last = f"{NETWORKS[network][1]}.input_quantizer"
    read.graph.output.append(onnx.helper.make_tensor_value_info(last, onnx.TensorProto.FLOAT, None))
    logits, found = ReferenceEvaluator(read).run(None, {"images": X.numpy()})
    seen = {}
    quantizer = model.get_submodule(last)
    handle = quantizer.register_forward_hook(lambda module, args, out: seen.update(out=out.clone()))
    with torch.no_grad():
        expected = model(X)
    handle.remove()
    return quantizer, (found, seen["out"].numpy().reshape(found.shape)), (logits, expected.numpy())


def floats_below(values, type):
    """Return how many positive floats of a type are up to each value on its grid, negative where the value is."""
    codes = torch.from_numpy(values).to(type).view(torch.uint8).int()
    return torch.where(codes > 127, 128 - codes, codes).numpy()


def check_steps(steps, logits):
    assert np.mean(steps < 1.5) >= 0.999
    exact = steps.reshape(len(X), -1).max(axis=1) < 0.5
    assert exact.mean() > 0.8
    found, expected = (each[exact] for each in logits)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


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


@pytest.mark.parametrize("policy", FLOATS)
def test_floats_and_scales_are_the_simulated_ones(policy):
    model, read = simulated("cnn", policy), onnx.load_from_string(graph("cnn", policy).content)
    tensors = {tensor.name: tensor for tensor in read.graph.initializer}
    bits, kinds = FLOATS[policy], {"FP8": "FLOAT8E4M3FN", "FP8-E5M2": "FLOAT8E5M2", None: "UINT4"}
    for name, layer in quantized_layers(model).items():
        if layer.weight_format is None:
            assert f"{name}.weight.integers" in tensors
            continue
        stored, zero = tensors[f"{name}.weight.floats"], tensors[f"{name}.weight.zero_point"]
        for each in (stored, zero):
            assert onnx.TensorProto.DataType.Name(each.data_type) == kinds[bits.weight_format]
        assert len(stored.raw_data) == layer.weight.numel()
        floats = torch.from_numpy(numpy_helper.to_array(stored).astype(np.float32))
        floats = floats.T if isinstance(layer, nn.Linear) else floats
        scale = torch.from_numpy(numpy_helper.to_array(tensors[f"{name}.weight.scale"]).copy())
        assert scale.shape == ((len(layer.weight),) if bits.per_channel else ())
        assert torch.equal(floats * scale.reshape(-1, *[1] * (floats.ndim - 1)), layer.weight)
        assert not numpy_helper.to_array(zero).astype(np.float32).any()
    rounding = [node for node in read.graph.node if node.op_type == "QuantizeLinear"]
    assert len(rounding) >= len(quantized_layers(model))
    for node in rounding:
        (saturate,) = (attribute.i for attribute in node.attribute if attribute.name == "saturate")
        zero = tensors[node.input[2]]
        assert (saturate, onnx.TensorProto.DataType.Name(zero.data_type)) == (1, kinds[bits.activation_format])
    assert not any(node.op_type == "Clip" for node in read.graph.node)


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
