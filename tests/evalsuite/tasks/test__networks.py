from __future__ import annotations

from pathlib import Path

import pytest
import torch
from _dummies.models import CLASSES, random_images, tiny_resnet

from evalsuite.bits import BitPolicy
from evalsuite.errors import RequestError
from evalsuite.quantization.insert import insert_quantizers
from evalsuite.structure import describe
from evalsuite.tasks import _networks
from evalsuite.tasks._files import distributed_weights
from evalsuite.tasks._networks import Restricted, named_network
from evalsuite.tasks._torchvision_networks import torchvision_network
from evalsuite.torchvision_compat import import_torchvision


def test_restricted_network_is_the_same_network():
    whole = tiny_resnet()
    part = Restricted(whole, [3, 1]).eval()
    images = random_images(4)
    torch.testing.assert_close(part(images), whole(images)[:, [3, 1]], rtol=0, atol=0)
    assert {name.removeprefix("network.") for name in part.state_dict()} == set(whole.state_dict())
    assert len(describe(part, images).blocks) == len(describe(whole, images).blocks)
    quantized = insert_quantizers(part, BitPolicy(), images[:1])
    assert quantized(images).shape == (4, 2)
    assert CLASSES == 5


def test_published_weights_come_from_the_data_folder_first(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(torch.hub, "download_url_to_file", lambda *arguments, **options: pytest.fail("downloaded"))
    url = "https://somewhere/net-0123456789.pth"
    hub = Path(torch.hub.get_dir()) / "checkpoints" / "net-0123456789.pth"
    hub.parent.mkdir(parents=True)
    hub.touch()
    assert distributed_weights(url, str(tmp_path), download=True) == hub
    assert distributed_weights(url, None, download=True) == hub
    own = tmp_path / "weights" / "net-0123456789.pth"
    own.parent.mkdir()
    own.touch()
    assert distributed_weights(url, str(tmp_path), download=True) == own


def test_weights_are_downloaded_with_their_hash_or_the_line_says_where_they_belong(tmp_path: Path, monkeypatch):
    url = "https://somewhere/net-0123456789.pth"
    fetched = []

    def fetch(source: str, target: str, prefix: str | None, progress: bool) -> None:
        fetched.append((source, prefix))
        Path(target).write_bytes(b"weights")

    monkeypatch.setattr(torch.hub, "download_url_to_file", fetch)
    with pytest.raises(RequestError, match=r"expected https://somewhere/net-0123456789\.pth at .*weights.* or .*hub"):
        distributed_weights(url, str(tmp_path), download=False)
    assert not fetched
    assert distributed_weights(url, str(tmp_path), download=True).read_bytes() == b"weights"
    assert fetched == [(url, "0123456789")]

    def offline(*arguments: object, **options: object) -> None:
        raise OSError("no\nnetwork")

    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    with pytest.raises(RequestError, match=r"cannot be downloaded \(no network\): expected https://.* at") as caught:
        distributed_weights("https://somewhere/other.pth", None, download=True)
    assert "\n" not in str(caught.value)


def test_torchvision_network_with_its_own_weights(tmp_path: Path):
    models = import_torchvision().models
    weights = models.get_model_weights("squeezenet1_1")["IMAGENET1K_V1"]
    source = models.squeezenet1_1().eval()
    (tmp_path / "weights").mkdir()
    torch.save(source.state_dict(), tmp_path / "weights" / weights.url.rpartition("/")[2])
    images = torch.randn(1, 3, 64, 64)
    for network in (
        torchvision_network(weights, "squeezenet1_1", str(tmp_path)),
        named_network("squeezenet1_1", None, None, str(tmp_path)),
    ):
        torch.testing.assert_close(network(images), source(images), rtol=0, atol=0)
        assert not network.training


def test_timm_without_a_network_is_one_line(monkeypatch):
    import_torchvision()
    import timm

    def offline(*arguments: object, **options: object) -> None:
        raise ConnectionError("no\nhub")

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(RequestError, match=r"timm cannot get the weights of test_vit \(no hub\)") as caught:
        named_network("timm:test_vit", None, None, None)
    assert "\n" not in str(caught.value)


def test_timm_weights_are_asked_for(monkeypatch):
    import_torchvision()
    import timm

    asked = {}

    def create(name: str, **options: object) -> torch.nn.Module:
        asked.update(options, name=name)
        return tiny_resnet().train()

    monkeypatch.setattr(timm, "create_model", create)
    assert not named_network("timm:test_vit", None, 7, None).training
    assert asked == {"name": "test_vit", "pretrained": True, "num_classes": 7}


def test_a_factory_s_own_weights(tmp_path: Path):
    network = named_network("_dummies.models:tiny_resnet", None, None, None)
    images = random_images(2)
    torch.testing.assert_close(network(images), tiny_resnet()(images), rtol=0, atol=0)
    assert _networks.Restricted(network, [0])(images).shape == (2, 1)
