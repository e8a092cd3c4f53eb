from __future__ import annotations

import copy
import io
import json
import os
import pickle
import warnings
import zipfile
from collections import OrderedDict

import pytest
import torch
from _dummies.models import random_images, tiny_resnet, tiny_transformer
from _dummies.networks import check_it_is_measured, images, row_of, stripes
from torch import nn

from evalsuite import adapt
from evalsuite.bits import BitPolicy
from evalsuite.errors import Refused, RequestError
from evalsuite.quantizers._program_archive import read_program
from evalsuite.targets import target_of

pytest.importorskip("torch.export.pt2_archive")

X = images()


class Fake(nn.Module):
    """Quantizes what a network reads as PT2E's converted graphs do."""

    def __init__(self, network) -> None:
        super().__init__()
        import torch.ao.quantization.fx._decomposed  # noqa: F401 - registers the operations

        self.network = network

    def forward(self, x):
        grid = (0.05, 3, -128, 127, torch.int8)
        integers = torch.ops.quantized_decomposed.quantize_per_tensor.default(x, *grid)
        with torch.no_grad():  # an operation of higher order
            return self.network(torch.ops.quantized_decomposed.dequantize_per_tensor.default(integers, *grid))


def saved(model, file, batch=None, example=X):
    shapes = None if batch else ({0: torch.export.Dim.AUTO},)
    program = torch.export.export(model, (example[: batch or 2],), dynamic_shapes=shapes)
    torch.export.save(program, file)
    return file


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return saved(Fake(stripes()), tmp_path_factory.mktemp("program") / "program.pt2")


def inserted(file):
    return target_of(str(file)).setting.build().insert(stripes(), BitPolicy(), X[:1])


def test_it_is_measured_as_torch_runs_it(file, tmp_path):
    run = check_it_is_measured(str(file), tmp_path, torch.export.load(file).module())
    assert row_of(run, target_of(str(file)))["engine"] == "torch.export"


def dashed():
    """Some of torchvision's networks have such names."""
    return nn.Sequential(OrderedDict({"block-0": tiny_resnet()})).eval()


@pytest.mark.parametrize("build", [tiny_resnet, tiny_transformer, dashed])
def test_what_networks_do_is_let_through(build, tmp_path):
    model, x = build(), random_images(2)
    _, module = read_program(saved(model, tmp_path / "model.pt2", example=x).read_bytes(), "model.pt2")
    with torch.no_grad():
        torch.testing.assert_close(module(x), model(x), rtol=0, atol=0)


@pytest.mark.parametrize("batch", [1, 5])
def test_a_fixed_batch_size_is_the_files_own_matter(batch, tmp_path):
    network = inserted(saved(stripes(), tmp_path / "fixed.pt2", batch))
    with torch.no_grad():
        for count in (1, 5, 12):
            torch.testing.assert_close(network(X[:count]), stripes()(X[:count]))


def test_copies_share_it_and_adapters_that_move_layers_refuse_it(file):
    network = inserted(file)
    assert network.state_dict() == {}
    assert torch.equal(copy.deepcopy(network)(X), network(X))
    assert torch.equal(adapt(network, "none", X)(X), network(X))
    with pytest.raises(Refused):
        adapt(network, "tent", X)


def test_another_content_is_another_trial_and_is_noticed(tmp_path):
    path = saved(stripes(), tmp_path / "model.pt2")
    first = target_of(str(path))
    other = stripes()
    with torch.no_grad():
        other[1].weight.mul_(1.01)
    saved(other, path)
    assert target_of(str(path)).setting != first.setting
    with pytest.raises(RequestError, match=r"model\.pt2 has changed since it was chosen"):
        first.setting.build().insert(stripes(), BitPolicy(), X[:1])


class Harm:
    """Makes a folder when it is unpickled."""

    def __init__(self, mark) -> None:
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


def rewritten(file, out, change):
    """Write an archive anew after a change of its files, the graph among them."""
    with zipfile.ZipFile(file) as archive:
        names = {member.partition("/")[2]: archive.read(member) for member in archive.namelist()}
    graph = json.loads(names["models/model.json"])
    change(names, graph)
    names["models/model.json"] = json.dumps(graph).encode()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in names.items():
            archive.writestr(f"program/{name}", content)
    return out


def weights(names, entry):
    config = json.loads(names["data/weights/model_weights_config.json"])
    config["config"][next(iter(config["config"]))] |= entry
    names["data/weights/model_weights_config.json"] = json.dumps(config).encode()


def pickled_weight(names, graph, mark):
    buffer = io.BytesIO()
    torch.save(Harm(mark), buffer)
    weights(names, {"use_pickle": True})
    names["data/weights/weight_0"] = buffer.getvalue()


def pickled_constant(names, graph, mark):
    names["data/constants/opaque_obj_0"] = pickle.dumps(Harm(mark))
    config = {
        "config": {"k": {"path_name": "opaque_obj_0", "is_param": False, "use_pickle": True, "tensor_meta": None}}
    }
    names["data/constants/model_constants_config.json"] = json.dumps(config).encode()


def compiled(names, graph, mark):
    names["data/aotinductor/model/x.so"] = b"\x7fELF"


def code(mark):
    return f"__import__('os').mkdir({str(mark)!r})"


def named_input(names, graph, mark):
    """An input whose name is the default value of another argument."""
    graph["graph_module"]["graph"]["inputs"][-1]["as_tensor"]["name"] = f"x={code(mark)}"


def size(names, graph, mark):
    values = graph["graph_module"]["graph"]["tensor_values"]
    next(iter(values.values()))["sizes"][0] = {"as_expr": {"expr_str": code(mark), "hint": None}}


def call(target):
    def change(names, graph, mark):
        node = graph["graph_module"]["graph"]["nodes"][0]
        node["target"] = target
        node["inputs"] = [{"name": "path", "arg": {"as_string": str(mark)}, "kind": 1}]

    return change


def attribute(names, graph, mark):
    spec = next(spec for spec in graph["graph_module"]["signature"]["input_specs"] if "parameter" in spec)
    spec["parameter"]["parameter_name"] = f'w") + {code(mark)} + ("'


def pickled_samples(names, graph, mark):
    buffer = io.BytesIO()
    torch.save(Harm(mark), buffer)
    names["data/sample_inputs/model.pt"] = buffer.getvalue()


def guard(names, graph, mark):
    graph["guards_code"] = [f"{code(mark)} is None"]


def container(names, graph, mark):
    context = {"default_factory_module": "antigravity", "default_factory_name": "webbrowser", "dict_context": []}
    spec = [1, {"type": "collections.defaultdict", "context": json.dumps(context), "children_spec": []}]
    graph["graph_module"]["module_call_graph"][0]["signature"]["out_spec"] = json.dumps(spec)


REFUSED = {
    "pickled weight": (pickled_weight, "as a Python object, which loading would run"),
    "pickled constant": (pickled_constant, "as a Python object, which loading would run"),
    "compiled": (compiled, "compiled code, which loading would run"),
    "input": (named_input, "which torch might run as code"),
    "size": (size, "has the expr_str .* which torch might run as code"),
    "attribute": (attribute, "which torch might run as code"),
    "os": (call("torch.os.mkdir"), "has the target 'torch.os.mkdir'"),
    "library": (call("torch.ops.load_library"), "has the target"),
    "file": (call("torch.ops.aten.from_file.default"), "has the target"),
    "namespace": (call("torch.ops.their_kernels.run.default"), "has the target"),
    "attributes": (call("_operator.attrgetter"), "has the target"),
    "private": (call("torch.ops.aten.add.__globals__"), "has the target"),
}
DROPPED = {"samples": pickled_samples, "guard": guard, "container": container}


@pytest.mark.parametrize("name", REFUSED)
def test_nothing_of_an_archive_is_run_as_code(file, tmp_path, name):
    change, message = REFUSED[name]
    mark = tmp_path / "harm"
    bad = rewritten(file, tmp_path / "bad.pt2", lambda names, graph: change(names, graph, mark))
    with pytest.raises(RequestError, match=rf"^[^\n]*bad\.pt2[^\n]*{message}[^\n]*$"):
        target_of(str(bad))
    assert not mark.exists()


@pytest.mark.parametrize("name", DROPPED)
def test_what_a_network_does_not_need_is_left_unread(file, tmp_path, name):
    mark = tmp_path / "harm"
    odd = rewritten(file, tmp_path / "odd.pt2", lambda names, graph: DROPPED[name](names, graph, mark))
    assert torch.equal(inserted(odd)(X), inserted(file)(X))
    assert not mark.exists()


def test_torch_itself_would_run_it(file, tmp_path):
    """Else the two tests above would show nothing."""
    for change in (pickled_weight, pickled_samples):
        mark = tmp_path / change.__name__
        bad = rewritten(file, tmp_path / "bad.pt2", lambda names, graph, c=change, m=mark: c(names, graph, m))
        with pytest.raises(Exception):  # noqa: B017, PT011 - what it says of the harm's result matters not
            torch.export.load(bad)
        assert mark.is_dir()


class Two(nn.Module):
    def forward(self, x):
        return x.mean((2, 3)), x.amax((2, 3))


class Wide(nn.Module):
    def forward(self, x):
        return torch.cat([x.mean((2, 3)), x.amax((2, 3))], 1)


@pytest.mark.parametrize(
    ("model", "example", "message"),
    [
        (Two(), X, "has 1 inputs and 2 outputs, where a network has one tensor each"),
        (Wide(), X, r"returns \(2, 6\): expected a tensor \(2, 3\)"),
        (Wide(), X[:, :1], "fails on"),
    ],
)
def test_a_network_of_another_task_is_one_clear_line(tmp_path, model, example, message):
    path = saved(model, tmp_path / "other.pt2", example=example)
    with pytest.raises(RequestError, match=rf"^[^\n]*other\.pt2 {message}[^\n]*$"):
        inserted(path)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no archive", b"{}"])
def test_damaged_files_are_one_clear_line(tmp_path, content):
    (tmp_path / "damaged.pt2").write_bytes(content)
    with pytest.raises(RequestError, match=r"^[^\n]*damaged\.pt2 cannot be read[^\n]*$"):
        target_of(str(tmp_path / "damaged.pt2"))


def test_a_pickled_network_is_no_archive(tmp_path):
    mark = tmp_path / "harm"
    torch.save(Harm(mark), tmp_path / "network.pt2")
    with pytest.raises(RequestError, match=r"network\.pt2 holds no graph"):
        target_of(str(tmp_path / "network.pt2"))
    assert not mark.exists()
