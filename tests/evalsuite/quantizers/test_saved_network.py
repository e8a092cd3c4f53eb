import pytest
import torch
from _dummies.networks import check_it_is_measured, images, measured, row_of, stripes
from _dummies.plugins import SCALED

from evalsuite import quantize
from evalsuite.bits import BitPolicy
from evalsuite.errors import RequestError
from evalsuite.quantization.grids.layers import quantized_layers
from evalsuite.quantization.saving import save
from evalsuite.structure import describe
from evalsuite.targets import target_of

X = images()


@pytest.fixture(scope="module")
def network():
    return quantize(stripes(), X, method="rtn", weight_bits=4, activation_bits=4)


@pytest.fixture(scope="module")
def file(network, tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "saved.safetensors"
    save(network, path)
    return path


def test_it_is_measured_as_it_was_saved(file, network, tmp_path):
    run = check_it_is_measured(str(file), tmp_path, network, bits="W4A4")
    assert row_of(run, target_of(str(file)))["engine"] == "simulated"


def test_other_widths_are_refused_and_the_target_says_which_it_has(file, tmp_path):
    target = target_of(str(file))
    assert str(target.bits) == "W4A4"
    row = row_of(measured(target, tmp_path, "W8A8"), target)
    assert (row["status"], row["reason"]) == (
        "refused",
        "saved.safetensors was quantized to W4A4; expected this instead of W8A8",
    )


def test_its_layers_are_seen(file, network):
    loaded = target_of(str(file)).setting.build().insert(stripes(), BitPolicy(4, 4), X[:1])
    assert quantized_layers(loaded).keys() == quantized_layers(network).keys() == {"1"}
    assert describe(loaded, X).layers == ("1",)


def test_a_file_of_another_network_or_that_names_code_is_one_clear_line(file, tmp_path):
    plugin = target_of(str(file)).setting.build()
    with pytest.raises(RequestError, match=r"saved\.safetensors cannot be read into this network"):
        plugin.insert(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3072, 5)), BitPolicy(4, 4), X[:1])
    foreign = tmp_path / "foreign.safetensors"
    save(quantize(stripes(), X, method=SCALED), foreign)
    with pytest.raises(RequestError, match="which is not registered, and loading it would run its code"):
        target_of(str(foreign))
    foreign.write_bytes(b"nothing of the kind")
    with pytest.raises(RequestError, match=r"^[^\n]*foreign\.safetensors[^\n]*$"):
        target_of(str(foreign))


def test_another_content_is_noticed(file, tmp_path):
    copy = tmp_path / "saved.safetensors"
    copy.write_bytes(file.read_bytes())
    first = target_of(str(copy))
    save(quantize(stripes(), X, method="rtn", weight_bits=4, activation_bits=4, symmetric=True), copy)
    with pytest.raises(RequestError, match="has changed since it was chosen"):
        first.setting.build().insert(stripes(), BitPolicy(4, 4), X[:1])
