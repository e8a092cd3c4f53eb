import copy

import pytest
import torch
from _dummies.networks import check_it_is_measured, images, rounded, row_of, stripes
from torch import nn

from evalsuite.bits import BitPolicy
from evalsuite.errors import Refused, RequestError
from evalsuite.quantizers.python_network import PythonNetwork
from evalsuite.targets import target_of

X = images()
FILE = """
import torch
from _dummies.networks import rounded, stripes

network = rounded(stripes())


def logits(images):
    return network(images)


class Method:
    pass


def wrong(images):
    return torch.zeros(len(images), 7)


def nan(images):
    return network(images) * torch.nan


def listed(images):
    return network(images).tolist()


def probabilities(images):
    return network(images).softmax(1)


def fails(images):
    raise KeyError("no such layer")


number = 7
drawn = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3072, 3))
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(FILE)
    return path


@pytest.mark.parametrize("name", ["logits", "network"])
def test_it_is_measured_as_it_computes(file, tmp_path, name):
    run = check_it_is_measured(f"{file}:{name}", tmp_path / "run", rounded(stripes()))
    row = row_of(run, target_of(f"{file}:{name}"))
    assert row["engine"] == "python"
    assert row["quantizer_label"] == f"mine.py:{name} W8A8"


def test_a_relative_path_is_the_same_wherever_the_working_folder_is(file, monkeypatch):
    monkeypatch.chdir(file.parent)
    target = target_of("mine.py:logits")
    monkeypatch.chdir("/")
    network = target.setting.build().insert(stripes(), BitPolicy(), X[:1])
    with torch.no_grad():
        assert torch.equal(network(X), rounded(stripes())(X))
    assert target.setting == target_of(f"{file}:logits").setting


def test_copies_share_the_network_and_there_is_no_state(file):
    network = target_of(f"{file}:network").setting.build().insert(stripes(), BitPolicy(), X[:1])
    assert network.state_dict() == {}
    assert torch.equal(copy.deepcopy(network)(X), network(X))
    assert not network(X.clone().requires_grad_()).requires_grad


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("wrong", r"mine.py:wrong returns \(2, 7\): expected a tensor \(2, 3\)"),
        ("nan", "not all finite"),
        ("listed", "returns a list"),
        ("probabilities", "returns probabilities"),
        ("fails", "KeyError: 'no such layer'"),
        ("absent", "has no 'absent'"),
        ("number", "is a int: expected a function of images, or a torch.nn.Module"),
    ],
)
def test_what_is_no_network_of_the_task_is_one_clear_line(file, name, message):
    with pytest.raises(RequestError, match=f"^[^\n]*{message}[^\n]*$"):
        target_of(f"{file}:{name}").setting.build().insert(stripes(), BitPolicy(), X[:1])


def test_another_content_is_another_trial_and_is_noticed(file):
    first = {name: target_of(f"{file}:{name}") for name in ("logits", "network")}
    file.write_text(FILE.replace("rounded(stripes())", "rounded(stripes(), 4)"))
    for name, target in first.items():
        assert target_of(f"{file}:{name}").setting != target.setting
        with pytest.raises(RequestError, match="changed"):
            target.setting.build().insert(stripes(), BitPolicy(), X[:1])


def test_a_module_whose_state_is_not_the_same_each_time_is_refused(file, monkeypatch):
    import sys

    target = target_of(f"{file}:drawn")
    for name in [name for name in sys.modules if name.startswith("evalsuite_external_mine")]:
        monkeypatch.delitem(sys.modules, name)  # as in another process
    with pytest.raises(RequestError, match=r"is not what it was .* drawn anew or moves when it runs"):
        target.setting.build().insert(stripes(), BitPolicy(), X[:1])


def test_quantized_tensors_of_extensions_are_part_of_its_digest(file, tmp_path):
    (tmp_path / "extended.py").write_text(
        "import torch\n"
        "from torch.testing._internal.two_tensor import TwoTensor\n"
        "from _dummies.networks import stripes\n"
        "network = stripes()\n"
        "first = network[1].weight.detach()\n"
        "network[1].weight = torch.nn.Parameter(TwoTensor(first, first + CHANGE))\n"
    )
    text = (tmp_path / "extended.py").read_text()
    digests = set()
    for change in ("0", "1"):
        (tmp_path / "extended.py").write_text(text.replace("CHANGE", change))
        digests.add(target_of(f"{tmp_path / 'extended.py'}:network").source_digest)
    assert len(digests) == 2


def test_dynamically_quantized_modules_of_torch_run(tmp_path):
    (tmp_path / "dynamic.py").write_text(
        "import torch, warnings\n"
        "from _dummies.networks import stripes\n"
        "with warnings.catch_warnings():\n"
        "    warnings.simplefilter('ignore')\n"
        "    network = torch.ao.quantization.quantize_dynamic(stripes(), {torch.nn.Linear})\n"
    )
    network = target_of(f"{tmp_path / 'dynamic.py'}:network").setting.build().insert(stripes(), BitPolicy(), X[:1])
    with torch.no_grad():
        found, expected = network(X), stripes()(X)
    assert 0 < (found - expected).abs().max() < 0.05 * expected.abs().max()


def test_adapters_that_move_layers_refuse_it(file):
    from evalsuite import adapt

    network = PythonNetwork(f"{file}:network").insert(stripes(), BitPolicy(), X[:1])
    for adapter in ("bn_adapt", "tent", "zoa"):
        with pytest.raises(Refused):
            adapt(network, adapter, X)
    assert isinstance(network, nn.Module)
