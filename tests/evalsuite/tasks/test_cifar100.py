from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from evalsuite.errors import RequestError
from evalsuite.models.cifar_resnet import ResNet
from evalsuite.registry import names
from evalsuite.streams import Domain
from evalsuite.tasks.cifar100 import CIFAR100, ResNet20, ResNet56
from evalsuite.torchvision_compat import import_torchvision


def drawn(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    return generator.integers(0, 256, (n, 32, 32, 3), np.uint8), generator.integers(0, 100, n)


def write_folder(root: Path, count: int = 100) -> None:
    folder = root / CIFAR100.folder
    folder.mkdir(parents=True, exist_ok=True)
    for seed, name in enumerate(("test", "train")):
        images, labels = drawn(4, seed)
        batch = {
            "data": images.transpose(0, 3, 1, 2).reshape(4, -1),
            "fine_labels": labels.tolist(),
            "coarse_labels": [0] * 4,
        }
        (folder / name).write_bytes(pickle.dumps(batch, protocol=2))
    meta = {"fine_label_names": [f"thing {i}" for i in range(count)]}
    (folder / "meta").write_bytes(pickle.dumps(meta, protocol=2))


def test_torchvision_folder(tmp_path: Path):
    write_folder(tmp_path)
    data = ResNet20().data(str(tmp_path))
    assert (data.test_images == drawn(4, 0)[0]).all()
    assert (data.pool_labels == drawn(4, 1)[1]).all()
    assert data.classes[17] == "thing 17"
    assert data.data_set == "cifar100"
    write_folder(tmp_path, count=99)
    with pytest.raises(RequestError, match=r"meta is broken \(it has 99\): expected 100 class names"):
        ResNet20().data(str(tmp_path))


def test_arrays(tmp_path: Path):
    for seed, part in enumerate(("test", "train")):
        images, labels = drawn(4, seed)
        np.save(tmp_path / f"cifar100_{part}_images.npy", images)
        np.save(tmp_path / f"cifar100_{part}_labels.npy", labels)
    data = ResNet56().data(str(tmp_path))
    assert (data.test_images == drawn(4, 0)[0]).all()
    assert data.classes[:2] == ("0", "1")


def test_download_is_an_option(tmp_path: Path, monkeypatch):
    with pytest.raises(RequestError, match=r"no folder .*cifar-100-python: expected either; .* download = true"):
        ResNet20().data(str(tmp_path))
    datasets = import_torchvision().datasets
    monkeypatch.setattr(datasets, "CIFAR100", lambda root, download: write_folder(Path(root)))
    assert len(ResNet20(download=True).data(str(tmp_path)).test_images) == 4

    def offline(root: str, download: bool) -> None:
        raise OSError("no\nnetwork")

    monkeypatch.setattr(datasets, "CIFAR100", offline)
    with pytest.raises(RequestError, match=r"CIFAR100 cannot be downloaded \(no network\): expected torchvision's"):
        ResNet20(download=True).data(str(tmp_path / CIFAR100.folder))


@pytest.mark.parametrize(("task", "blocks"), [(ResNet20(), 3), (ResNet56(), 9)])
def test_weights(tmp_path: Path, task, blocks: int):
    with pytest.raises(RequestError, match=rf"no file {task.weights}: expected https://github.com/chenyaofo"):
        task.model(str(tmp_path))
    source = ResNet(blocks=blocks, classes=100, shortcut="project").eval()
    (tmp_path / "weights").mkdir()
    torch.save(source.state_dict(), tmp_path / "weights" / task.weights)
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(task.model(str(tmp_path))(images), source(images), rtol=0, atol=0)


def test_cifar_100_c(tmp_path: Path):
    write_folder(tmp_path)
    (tmp_path / "CIFAR-100-C").mkdir()
    images = np.random.default_rng(3).integers(0, 256, (20, 32, 32, 3), dtype=np.uint8)
    np.save(tmp_path / "CIFAR-100-C" / "fog.npy", images)
    np.save(tmp_path / "CIFAR-100-C" / "labels.npy", np.tile(drawn(4, 0)[1], 5))
    files = ResNet20().published(str(tmp_path), Domain("fog", 5), np.arange(4))
    assert (files.read(np.array([1])) == images[17]).all()


def test_both_are_registered():
    assert {"cifar100/resnet20", "cifar100/resnet56"} <= set(names("tasks"))


def test_checkpoint_of_the_same_author_fits_the_architecture(data_root: Path):
    """The weights for CIFAR-10 by the author of those for CIFAR-100: 92.60 % are published, on all images."""
    from evalsuite.tasks._files import load_tensors, load_weights
    from evalsuite.tasks.cifar10 import ResNet20 as Ten

    file = data_root / "weights" / "cifar10_resnet20_optB.pt"
    network = load_weights(lambda: ResNet(blocks=3, classes=10, shortcut="project"), load_tensors(file), file)
    data = Ten().data(str(data_root))
    images = torch.from_numpy(np.array(data.test_images[:300])).permute(0, 3, 1, 2) / 255
    mean, std = torch.tensor((0.4914, 0.4822, 0.4465)), torch.tensor((0.2023, 0.1994, 0.2010))
    with torch.no_grad():
        predictions = network((images - mean.view(3, 1, 1)) / std.view(3, 1, 1)).argmax(1).numpy()
    assert (predictions == data.test_labels[:300]).mean() > 0.88
