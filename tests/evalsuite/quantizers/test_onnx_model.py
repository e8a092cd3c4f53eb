from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from _dummies.networks import check_it_is_measured, images, measured, row_of, stripes
from torch import nn

from evalsuite import adapt
from evalsuite.bits import BitPolicy
from evalsuite.errors import Refused, RequestError
from evalsuite.randomness import torch_generator

pytest.importorskip("onnxruntime")

import onnx
import onnxruntime
from onnxruntime.quantization import CalibrationDataReader, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from evalsuite.quantizers.onnx_model import ONNXModel
from evalsuite.quantizers.onnxruntime import ONNXRuntime
from evalsuite.targets import target_of

X = images()
W8A8 = BitPolicy(8, 8)


def exported(model, file, batch=None, shape=(3, 32, 32)):
    shapes = None if batch else ({0: torch.export.Dim("batch")},)
    example = (torch.randn(batch or 2, *shape),)
    torch.onnx.export(model, example, file, input_names=["pixels"], dynamic_shapes=shapes, dynamo=True, verbose=False)
    return file


class Reader(CalibrationDataReader):
    def __init__(self) -> None:
        self.rest = iter([{"pixels": X.numpy()}])

    def get_next(self):
        return next(self.rest, None)


@pytest.fixture(scope="module")
def floating(tmp_path_factory):
    return exported(stripes(), tmp_path_factory.mktemp("onnx") / "float.onnx")


@pytest.fixture(scope="module")
def qdq(floating, tmp_path_factory):
    folder = tmp_path_factory.mktemp("qdq")
    quant_pre_process(floating, folder / "prepared.onnx")
    quantize_static(folder / "prepared.onnx", folder / "qdq.onnx", Reader())
    return folder / "qdq.onnx"


class Session(nn.Module):
    """ONNX Runtime called as its manual says, on any processor as on one with instructions for 8-bit products."""

    def __init__(self, file) -> None:
        super().__init__()
        options = onnxruntime.SessionOptions()
        options.add_session_config_entry("session.x64quantprecision", "1")
        self.session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])

    def forward(self, x):
        return torch.from_numpy(self.session.run(None, {"pixels": x.numpy()})[0])


def inserted(file, bits=W8A8, model=None, example=X[:1]):
    return target_of(str(file)).setting.build().insert(model or stripes(), bits, example)


def test_an_integer_network_is_measured_as_onnx_runtime_computes_it(qdq, tmp_path):
    run = check_it_is_measured(str(qdq), tmp_path, Session(qdq))
    assert row_of(run, target_of(str(qdq)))["engine"] == "onnxruntime"


def test_a_floating_point_network_is_quantized_as_the_networks_own_quantizer_does_it(floating, tmp_path):
    network, source = inserted(floating), stripes()
    with torch.no_grad():
        torch.testing.assert_close(network(X), source(X))
        own = ONNXRuntime()
        twin = own.insert(source, BitPolicy(8, 8, symmetric=True), X[:1])
        own.calibrate(twin, X, torch_generator(0))
        ONNXModel(str(floating)).calibrate(network, X, torch_generator(0))
        assert torch.equal(network(X), twin(X))
        assert not torch.equal(network(X), source(X))
    target = target_of(str(floating))
    assert row_of(measured(target, tmp_path), target)["status"] == "done"
    fresh = inserted(floating)
    fresh.load_state_dict(network.state_dict())
    assert torch.equal(fresh(X), network(X))


def test_other_widths_of_a_floating_point_network_are_refused(floating, qdq, tmp_path):
    with pytest.raises(Refused, match=r"expected this instead of W4A8$"):
        inserted(floating, BitPolicy(4, 8))
    assert torch.equal(inserted(qdq, BitPolicy(4, 4))(X), inserted(qdq)(X))
    target = target_of(str(floating))
    assert row_of(measured(target, tmp_path, "W4A4"), target)["status"] == "refused"


def test_a_fixed_batch_size_is_the_files_own_matter(qdq, floating, tmp_path):
    five = exported(stripes(), tmp_path / "five.onnx", batch=5)
    network = inserted(five)
    for count in (1, 5, 12):
        torch.testing.assert_close(network(X[:count]), inserted(floating)(X[:count]))
    calibrated, free = inserted(five), inserted(floating)
    for each, file in ((calibrated, five), (free, floating)):
        ONNXModel(str(file)).calibrate(each, X, torch_generator(0))
    torch.testing.assert_close(calibrated(X), free(X))


def test_copies_and_a_state_without_anything_restore_it(qdq):
    network = inserted(qdq)
    assert network.state_dict() == {}
    assert torch.equal(copy.deepcopy(network)(X), network(X))
    assert torch.equal(adapt(network, "none", X)(X), network(X))
    with pytest.raises(Refused):
        adapt(network, "tent", X)


def changed(file, out, change):
    model = onnx.load(file)
    change(model)
    onnx.save(model, out)
    return out


def custom(model):
    model.graph.node[0].domain = "their.kernels"
    model.opset_import.append(onnx.helper.make_opsetid("their.kernels", 1))


def hidden(model):
    """The same inside of a branch."""
    branch = onnx.helper.make_graph(
        [onnx.helper.make_node("Run", [], ["y"], domain="their.kernels")], "b", [], [onnx.ValueInfoProto(name="y")]
    )
    model.graph.node.append(onnx.helper.make_node("If", ["c"], ["z"], then_branch=branch, else_branch=branch))


@pytest.mark.parametrize("change", [custom, hidden])
def test_operations_of_others_are_refused(floating, tmp_path, change):
    file = changed(floating, tmp_path / "custom.onnx", change)
    with pytest.raises(RequestError, match=r"needs operations of their\.kernels, which would run code of theirs"):
        target_of(str(file))


def test_a_file_that_reaches_outside_of_its_folder_is_refused(floating, tmp_path):
    (tmp_path / "secret").write_bytes(np.zeros(3 * 3072, np.float32).tobytes())
    (tmp_path / "inner").mkdir()

    def outside(model):
        weight = max(model.graph.initializer, key=lambda tensor: len(tensor.raw_data))
        weight.ClearField("raw_data")
        weight.data_location = onnx.TensorProto.EXTERNAL
        weight.external_data.add(key="location", value="../secret")

    file = tmp_path / "inner" / "model.onnx"
    model = onnx.load(floating)
    outside(model)
    file.write_bytes(model.SerializeToString())
    with pytest.raises(RequestError, match=r"^[^\n]+model\.onnx cannot be read: [^\n]+$"):
        target_of(str(file))


def test_weights_beside_the_file_are_part_of_what_it_is(tmp_path):
    file = tmp_path / "model.onnx"
    torch.onnx.export(stripes(), (X[:2],), file, dynamo=True, external_data=True, verbose=False)
    (beside,) = tmp_path.glob("*.data")
    first = target_of(str(file))
    content = bytearray(beside.read_bytes())
    content[3] ^= 1
    beside.write_bytes(content)
    assert target_of(str(file)).source_digest != first.source_digest
    with pytest.raises(RequestError, match=r"model\.onnx has changed since it was chosen"):
        first.setting.build().insert(stripes(), W8A8, X[:1])


class Constant(nn.Module):
    def forward(self, x):
        return x.mean((2, 3)) / 0 - x.mean((2, 3)) / 0


class Classes(nn.Module):
    def forward(self, x):
        return torch.cat([x.mean((2, 3)), x.amax((2, 3))], 1)


class Twins(nn.Module):
    def forward(self, x):
        return x.mean((2, 3)), x.amax((2, 3))


@pytest.mark.parametrize(
    ("model", "shape", "message"),
    [
        (Constant(), (3, 32, 32), "not all finite"),
        (Classes(), (3, 32, 32), r"returns \(2, 6\): expected a tensor \(2, 3\)"),
        (Twins(), (3, 32, 32), "1 inputs and 2 outputs: expected one input of images"),
        (
            Classes(),
            (1, 32, 32),
            r"takes images of shape \(.*, 1, 32, 32\): expected one input of images \(N, 3",
        ),
        (Classes(), (3, 64, 64), r"takes images of shape \(.*, 3, 64, 64\)"),
        (nn.Softmax(1), (3,), r"takes images of shape \(\w+, 3\)"),
    ],
)
def test_a_network_of_another_task_is_one_clear_line(tmp_path, model, shape, message):
    file = exported(model, tmp_path / "other.onnx", shape=shape)
    with pytest.raises(RequestError, match=f"^other.onnx [^\n]*{message}"):
        inserted(file)


@pytest.mark.parametrize("content", [b"", b"no protobuf at all", b"\x08"])
def test_damaged_files_are_one_clear_line(tmp_path, content):
    file = tmp_path / "damaged.onnx"
    file.write_bytes(content)
    with pytest.raises(RequestError, match=r"^[^\n]*damaged\.onnx[^\n]+$"):
        inserted(file)
    with pytest.raises(RequestError, match=r"no file .*none\.onnx: expected an ONNX file of a network"):
        target_of(str(tmp_path / "none.onnx"))
