from __future__ import annotations

import copy
import pickle
import sys

import pytest
import torch
from _dummies.models import random_images
from safetensors.torch import load, save
from torch import nn

from evalsuite import adapt
from evalsuite.bits import BitPolicy
from evalsuite.errors import Refused, RequestError
from evalsuite.randomness import torch_generator
from evalsuite.structure import describe

pytest.importorskip("onnxruntime")

from evalsuite.quantizers.onnxruntime import EngineNetwork, ONNXRuntime

BITS = BitPolicy(8, 8, symmetric=True, fold_norm=True)
X = random_images(24)


class Small(nn.Module):
    """A convolution with norm, a sum, a classifier: all of the ways, quickly exported."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn = nn.Conv2d(3, 8, 3, stride=2, bias=False), nn.BatchNorm2d(8)
        self.conv2, self.fc = nn.Conv2d(8, 8, 3, padding=1), nn.Linear(8, 5)

    def forward(self, x):
        x = self.bn(self.conv1(x)).relu()
        return self.fc((x + self.conv2(x)).relu().mean((2, 3)))


def small() -> Small:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = Small()
        model.train()(random_images(64, seed=1))
    return model.eval()


def quantized(model, bits=BITS, plugin=ONNXRuntime()):  # noqa: B008 - frozen
    network = plugin.insert(model, bits, X[:1])
    plugin.calibrate(network, X, torch_generator(0))
    return network


@pytest.fixture(scope="module")
def network():
    return quantized(small())


def test_it_computes_the_network_in_integers(network):
    import onnx

    model = small()
    expected, found = model(X), network(X)
    error = (found - expected).square().mean() / expected.square().mean()
    assert 0 < error < 1e-2
    operations = [node.op_type for node in onnx.load_from_string(network.graph.numpy().tobytes()).graph.node]
    assert operations.count("Conv") == 2
    assert operations.count("QuantizeLinear") >= 3
    assert "BatchNormalization" not in operations
    assert operations[-1] == "Gemm"  # logits stay as they are


def test_batches_of_any_size_and_any_thread_count_give_the_same_logits(network):
    whole = network(X)
    assert torch.equal(torch.cat([network(part) for part in X.split(7)]), whole)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        assert torch.equal(network(X), whole)
    finally:
        torch.set_num_threads(before)
    assert not network(X.clone().requires_grad_()).requires_grad


def test_quantizing_twice_gives_the_same_graph(network):
    assert torch.equal(quantized(small()).graph, network.graph)


def test_before_calibration_it_computes_what_the_model_does():
    model = small()
    before = copy.deepcopy(model.state_dict())
    inserted = ONNXRuntime().insert(model, BITS, X[:1])
    torch.testing.assert_close(inserted(X), model(X))
    assert all(torch.equal(model.state_dict()[name], value) for name, value in before.items())
    assert "0 bytes" in repr(inserted)


def test_state_restores_it_into_a_fresh_insert(network):
    fresh = ONNXRuntime().insert(small(), BITS, X[:1])
    fresh.load_state_dict(load(save(network.state_dict())), strict=True)
    assert torch.equal(fresh(X), network(X))
    assert f"{network.graph.numel()} bytes" in repr(fresh)
    with pytest.raises(RequestError, match="quantized already"):
        ONNXRuntime().calibrate(fresh, X, torch_generator(0))


def test_copies_and_pickles_run_by_themselves(network):
    logits = network(X)
    for twin in (copy.deepcopy(network), pickle.loads(pickle.dumps(network))):
        assert torch.equal(twin(X), logits)


def test_a_damaged_graph_is_one_clear_line(network):
    damaged = copy.deepcopy(network)
    damaged.graph = damaged.graph[: len(damaged.graph) // 2]
    with pytest.raises(RequestError, match=r"^ONNX Runtime cannot read this network's graph, \d+ bytes: [^\n]*$"):
        damaged(X)


@pytest.mark.parametrize(
    ("bits", "expected"),
    [
        (BitPolicy(4, 8, symmetric=True, fold_norm=True), "weight_bits = 8"),
        (BitPolicy(8, 6, symmetric=True, fold_norm=True), "activation_bits = 8"),
        (BitPolicy(8, 8, fold_norm=True), "symmetric = true"),
        (BitPolicy(8, 8), "symmetric = true, fold_norm = true"),
        (BitPolicy(8, 8, first_last_bits=4, symmetric=True, fold_norm=True), "first_last_bits = 8"),
        (BitPolicy(8, 8, symmetric=True, fold_norm=True, per_token=True), "per_token = false"),
    ],
)
def test_another_policy_is_refused(bits, expected):
    with pytest.raises(Refused, match=f"expected {expected}$"):
        ONNXRuntime().insert(small(), bits, X[:1])


def test_without_norms_there_is_nothing_to_fold():
    model = nn.Sequential(nn.Flatten(), nn.Linear(768, 5))
    ONNXRuntime().insert(model, BitPolicy(8, 8, symmetric=True), X[:1])
    ONNXRuntime().insert(model, BITS, X[:1])


def test_what_cannot_be_exported_is_refused():
    class Branching(nn.Module):
        def forward(self, x):
            return x.mean((2, 3)) if x.sum() > 0 else x.amax((2, 3))

    with pytest.raises(Refused, match=r"^Branching cannot be exported to ONNX: [^\n]+$"):
        quantized(Branching())


class Poisoned(Small):
    """Divides by zero between its convolutions, or multiplies by NaN at the end."""

    def __init__(self, at_the_end: bool) -> None:
        super().__init__()
        self.at_the_end = at_the_end

    def forward(self, x):
        if self.at_the_end:
            return super().forward(x) * torch.nan
        x = self.conv1(x)
        return self.fc(self.conv2(x / (0 * x)).mean((2, 3)))


@pytest.mark.parametrize(
    ("at_the_end", "where"), [(False, "NaN or infinity reaches conv2"), (True, "Poisoned gives NaN or infinity")]
)
def test_activations_that_are_not_finite_are_refused(at_the_end, where):
    with pytest.raises(Refused, match=f"^{where} for some calibration images: expected finite values$"):
        quantized(Poisoned(at_the_end).eval())


@pytest.mark.parametrize(("layer", "bad"), [("conv1", torch.nan), ("bn", torch.inf), ("fc", torch.inf)])
def test_weights_that_are_not_finite_are_named(layer, bad):
    model = small()
    with torch.no_grad():
        getattr(model, layer).weight.view(-1)[0] = bad
    named = "conv1" if layer == "bn" else layer  # the norm is folded
    with pytest.raises(RequestError, match=rf"^{named}\.weight holds NaN or infinity: expected finite values$"):
        quantized(model)


def test_what_onnxruntime_cannot_quantize_is_refused(monkeypatch):
    def fail(*args, **kwargs):
        assert args is None, "scale issue"

    monkeypatch.setattr("onnxruntime.quantization.quantize_static", fail)
    with pytest.raises(Refused, match=r"^ONNX Runtime cannot quantize it: scale issue$"):
        quantized(small())


def test_missing_packages_are_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(RequestError, match=r"pip install 'evalsuite\[onnx\]'"):
        ONNXRuntime().insert(small(), BITS, X[:1])


@pytest.mark.parametrize("name", ["bn_adapt", "tent", "zoa"])
def test_adapters_that_look_inside_are_refused(network, name):
    with pytest.raises(Refused, match=r"norm|Norm|runs in onnxruntime"):
        adapt(network, name, X)


def test_no_adaptation_runs_on_it_and_its_structure_is_refused(network):
    assert isinstance(network, EngineNetwork)
    assert torch.equal(adapt(network, "none", X)(X), network(X))
    with pytest.raises(Refused, match="runs in onnxruntime"):
        describe(network, X)


def test_coarser_weights_are_options(network):
    per_tensor = BitPolicy(8, 8, symmetric=True, fold_norm=True, per_channel=False)
    other = quantized(small(), per_tensor, ONNXRuntime(reduce_range=True))
    assert not torch.equal(other.graph, network.graph)
    assert other(X).argmax(1).eq(network(X).argmax(1)).float().mean() > 0.8
