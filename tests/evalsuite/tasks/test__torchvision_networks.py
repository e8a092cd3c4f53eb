from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from benchmarks.published_networks import as_released, randomised, torchvision_row
from evalsuite.errors import RequestError
from evalsuite.tasks._networks import named_network, published_evaluation
from evalsuite.tasks._torchvision_networks import evaluation, published_weights, torchvision_network
from evalsuite.torchvision_compat import import_torchvision


@pytest.fixture
def hub() -> Path:
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    folder.mkdir(parents=True)
    return folder


# A renormalised input, older names, layers that follow the release, nothing special; benchmarks/published_networks.py
# has all networks.
@pytest.mark.parametrize("name", ["googlenet", "densenet121", "mnasnet0_5", "squeezenet1_1"])
def test_published_files_are_what_torchvision_s_own_loader_makes_of_them(name: str, hub: Path):
    row = torchvision_row(name, hub)
    assert row["difference"] == 0
    assert row["logits"] > 0.1
    assert row["preparation"] == 0


def test_preparation_is_that_of_the_weights_for_every_network():
    models = import_torchvision().models
    names = models.list_models(module=models)
    assert {"vit_h_14", "regnet_y_128gf", "mnasnet1_3"} <= set(names)
    for name in names:
        shown, preset = published_evaluation(name), published_weights(name).transforms()
        assert [shown.preparation.size, shown.preparation.crop] == [preset.resize_size[0], preset.crop_size[0]]
        assert shown.preparation.interpolation == preset.interpolation.value
        assert [*shown.mean, *shown.std] == [*preset.mean, *preset.std]
    assert published_evaluation("vit_h_14").preparation.crop == 518
    assert published_evaluation("efficientnet_v2_l").mean == (0.5, 0.5, 0.5)


def test_a_file_of_another_release_is_known_by_its_name():
    assert published_weights("resnet50").name == "IMAGENET1K_V1"
    assert published_weights("resnet50", "resnet50-11ad3fa6.pth").name == "IMAGENET1K_V2"
    assert published_evaluation("resnet50", "weights/resnet50-11ad3fa6.pth").preparation.size == 232
    assert published_evaluation("resnet50", "mine.pth").preparation.size == 256


@pytest.mark.parametrize("name", ["fasterrcnn_resnet50_fpn", "quantized_resnet18", "raft_small"])
def test_networks_that_classify_nothing_are_refused_by_name(name: str):
    with pytest.raises(RequestError, match=f"unknown torchvision network '{name}'"):
        named_network(name, None, None, None)


def test_somebody_s_checkpoint_without_torch_s_metadata(tmp_path: Path):
    source = randomised(import_torchvision().models.get_model("mnasnet0_5", num_classes=3))
    state = {name: tensor.clone() for name, tensor in source.state_dict().items()}
    save_file(state, tmp_path / "mine.safetensors")
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    network = named_network("mnasnet0_5", tmp_path / "mine.safetensors", 3, None)
    torch.testing.assert_close(network(images), source(images), rtol=0, atol=0)


def test_somebody_s_checkpoint_with_the_key_names_of_an_older_release(tmp_path: Path):
    source = randomised(import_torchvision().models.get_model("densenet121", num_classes=3))
    torch.save({"state_dict": dict(as_released("densenet121", source.state_dict()))}, tmp_path / "mine.pt")
    network = named_network("densenet121", tmp_path / "mine.pt", 3, None)
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(network(images), source(images), rtol=0, atol=0)


@pytest.mark.parametrize("fault", ["missing", "unknown", "shape", "infinite"])
def test_broken_published_files_are_one_line(hub: Path, fault: str):
    weights = published_weights("squeezenet1_1")
    state = import_torchvision().models.squeezenet1_1().state_dict()
    first = next(iter(state))
    if fault == "missing":
        del state[first]
    if fault == "unknown":
        state["other"] = torch.zeros(2)
    if fault == "shape":
        state[first] = torch.zeros(2)
    if fault == "infinite":
        state[first].flatten()[0] = torch.inf
    torch.save(state, hub / weights.url.rpartition("/")[2])
    before = torch.random.get_rng_state()
    with pytest.raises(RequestError, match=r"squeezenet1_1-\w+\.pth is broken .*expected torchvision's") as caught:
        torchvision_network(weights, "squeezenet1_1", None)
    assert "\n" not in str(caught.value)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_evaluation_of_given_weights():
    weights = import_torchvision().models.get_model_weights("vit_b_16")["IMAGENET1K_SWAG_E2E_V1"]
    shown = evaluation(weights).preparation
    assert (shown.size, shown.crop, shown.interpolation) == (384, 384, "bicubic")
