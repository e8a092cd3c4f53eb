from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from _dummies.imagenet_sample import write_small_sample
from _dummies.pictures import read_picture, write_pictures
from torch import Tensor, nn

from evalsuite.errors import RequestError
from evalsuite.registry import configure, names
from evalsuite.running.task_data import describe_task
from evalsuite.streams import Domain
from evalsuite.structure import describe
from evalsuite.tasks import imagenet
from evalsuite.tasks._imagenet import ImageNetTask, wordnet_names
from evalsuite.tasks._networks import Restricted
from evalsuite.torchvision_compat import import_torchvision

NUMBERS = list(wordnet_names())
SOME = (0, 3, 207, 999)
SIZE = (260, 256)
TORCHVISION = [
    task
    for task in vars(imagenet).values()
    if isinstance(task, type) and issubclass(task, imagenet._Torchvision) and task is not imagenet._Torchvision
]


class Counting(nn.Module):
    """Logits are the class indices plus the image's mean."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1000)

    def forward(self, images: Tensor) -> Tensor:
        return torch.arange(1000.0) + images.mean(dim=(1, 2, 3))[:, None]


@dataclass(frozen=True)
class Counted(ImageNetTask):
    """A network that needs no weights."""

    def network(self, root: str | None) -> nn.Module:
        return Counting().eval()


def by_number(count: int) -> dict[str, int]:
    return {NUMBERS[i]: count for i in SOME}


@pytest.fixture
def val(tmp_path: Path) -> str:
    write_pictures(tmp_path / "imagenet" / "val", by_number(6), SIZE)
    return str(tmp_path)


def test_validation_folder_is_split_class_by_class(val: str):
    data = Counted().data(val)
    assert data.test_images.shape == (20, 224, 224, 3)
    assert np.bincount(data.test_labels).tolist() == [5, 5, 5, 5]
    assert data.pool_labels.tolist() == [0, 1, 2, 3]
    assert data.classes == ("tench", "tiger shark", "golden retriever", "toilet tissue")
    both = np.concatenate([data.test_images, data.pool_images]).reshape(24, -1)
    assert len(np.unique(both, axis=0)) == 24
    assert data.data_set == "imagenet"


def test_pool_comes_from_the_training_images_where_there_are_any(val: str):
    write_pictures(Path(val) / "imagenet" / "train", by_number(7) | {NUMBERS[500]: 2}, SIZE, seed=1)
    data = Counted().data(val)
    assert len(data.test_images) == 24
    assert np.bincount(data.pool_labels).tolist() == [5, 5, 5, 5]


@pytest.mark.parametrize("index_folders", [False, True])
@pytest.mark.parametrize(
    ("test_set", "folder"),
    [
        ("imagenet-r", "imagenet-r"),
        ("imagenet-a", "imagenet-a"),
        ("imagenet-v2", "imagenetv2-matched-frequency-format-val"),
        ("imagenet-sketch", "sketch"),
    ],
)
def test_other_test_sets_are_tasks_on_their_classes(val: str, test_set: str, folder: str, index_folders: bool):
    shown = {str(i) if index_folders else NUMBERS[i]: 2 for i in (207, 3)}
    write_pictures(Path(val) / folder, shown, SIZE, seed=2)
    task = Counted(test_set=test_set)
    data = task.data(val)
    assert data.classes == ("tiger shark", "golden retriever")
    assert sorted(data.test_labels.tolist()) == [0, 0, 1, 1]
    assert np.bincount(data.pool_labels).tolist() == [5, 5]
    assert data.data_set == test_set
    logits = task.model(val)(torch.zeros(1, 3, 4, 4))
    assert logits.tolist() == [[3.0, 207.0]]
    assert task.found(val).startswith("4 test images in")


def test_folder_of_all_classes_restricts_nothing(tmp_path: Path):
    for i in range(1000):
        (tmp_path / "imagenet-r" / str(i)).mkdir(parents=True)
    assert not isinstance(Counted(test_set="imagenet-r").model(str(tmp_path)), Restricted)
    assert not isinstance(Counted().model(str(tmp_path)), Restricted)
    assert not isinstance(Counted().model(None), Restricted)


def test_pool_of_another_test_set_may_be_the_sample(tmp_path: Path):
    write_small_sample(tmp_path, labels=8)
    write_pictures(tmp_path / "imagenet-a", {NUMBERS[i]: 1 for i in (2, 5)}, SIZE)
    data = Counted(test_set="imagenet-a").data(str(tmp_path))
    assert data.pool_labels.tolist() == [0, 1]
    assert data.pool_images.shape == (2, 224, 224, 3)
    assert Counted().found(str(tmp_path)) == "the sample imagenet_sample1000, and the weights"


def test_imagenet_c(val: str):
    task = Counted()
    test = task.data(val)
    kept = [path for path, _ in zip(sorted((Path(val) / "imagenet" / "val").rglob("*.png")), range(24), strict=True)]
    for file in kept:
        shown = Path(val) / "ImageNet-C" / "fog" / "4" / file.parent.name
        shown.mkdir(parents=True, exist_ok=True)
        (shown / file.name).write_bytes(file.read_bytes())
    files = task.published(val, Domain("fog", 4), np.arange(20))
    read = files.read(np.array([7, 0]))
    assert read.shape == (2, 224, 224, 3)
    assert len(test.test_labels) == 20
    with pytest.raises(RequestError, match=r"no file .*ImageNet-C/fog/5/n\d+/00\d\.png: expected the test image"):
        task.published(val, Domain("fog", 5), np.arange(20))


def test_imagenet_c_pixels_are_kept(val: str):
    write_pictures(Path(val) / "ImageNet-C" / "snow" / "1", by_number(6), (224, 224), seed=9)
    read = Counted().published(val, Domain("snow", 1), np.arange(20)).read(np.arange(20))
    expected = [read_picture(f) for f in (Path(val) / "ImageNet-C" / "snow" / "1").rglob("*.png")]
    assert {image.tobytes() for image in read} < {image.tobytes() for image in expected}


def test_what_is_missing_is_named(val: str, tmp_path: Path):
    with pytest.raises(RequestError, match="--data-root"):
        Counted().data(None)
    with pytest.raises(RequestError, match=r"no folder .*imagenet-sketch or .*sketch: expected imagenet-sketch"):
        Counted(test_set="imagenet-sketch").data(val)
    write_pictures(Path(val) / "imagenet-a", {NUMBERS[1]: 1}, SIZE)
    with pytest.raises(RequestError, match="nobody published imagenet-a corrupted"):
        Counted(test_set="imagenet-a").published(val, Domain("fog", 1), np.arange(1))
    other = tmp_path / "other"
    write_small_sample(other, labels=5)
    with pytest.raises(RequestError, match=r"ImageNet-C holds the validation images: expected these in .*imagenet/val"):
        Counted().published(str(other), Domain("fog", 1), np.arange(1))
    write_pictures(tmp_path / "few" / "imagenet" / "val", {NUMBERS[0]: 4}, SIZE)
    with pytest.raises(RequestError, match="too few pictures to calibrate with"):
        Counted().data(str(tmp_path / "few"))
    write_pictures(Path(val) / "imagenet" / "val", {"n01440765": 1}, SIZE)
    with pytest.raises(RequestError, match="no class of ImageNet: 'n01440765': did you mean 'n01440764'"):
        Counted().data(val)


def test_every_torchvision_task_says_what_torchvision_measured():
    registered = {configure("tasks", name).build().__class__ for name in names("tasks") if name.startswith("imagenet/")}
    assert len(TORCHVISION) >= 7
    for task in TORCHVISION:
        assert task in registered
        weights = task().weights
        assert f"{weights.meta['_metrics']['ImageNet-1K']['acc@1']:.3f} %" in task.__doc__
        assert task().preparation.crop == task.image_size


def test_torchvision_task_asks_for_its_file(tmp_path: Path, monkeypatch):
    write_small_sample(tmp_path, labels=5)
    monkeypatch.setattr(torch.hub, "download_url_to_file", lambda *a, **b: pytest.fail("doctor downloads"))
    with pytest.raises(RequestError, match=r"no file resnet18-f37072fd\.pth: expected https://.* at .*weights"):
        imagenet.ResNet18().found(str(tmp_path))


def test_torchvision_task_as_a_whole(tmp_path: Path):
    write_small_sample(tmp_path, labels=5)
    source = import_torchvision().models.resnet18()
    (tmp_path / "weights").mkdir()
    torch.save(source.state_dict(), tmp_path / "weights" / "resnet18-f37072fd.pth")
    facts = describe_task(configure("tasks", "imagenet/resnet18"), str(tmp_path))
    assert facts["architecture"] == "cnn"
    assert facts["test_images"] == 4
    assert "the weights" in imagenet.ResNet18().found(str(tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize("task", TORCHVISION, ids=lambda task: task.name)
def test_structure_of_every_network_is_found(task):
    found = describe(import_torchvision().models.get_model(task.name).eval(), torch.zeros(1, 3, 224, 224))
    assert found.architecture == ("transformer" if task.name in ("vit_b_16", "swin_t") else "cnn")
    assert len(found.blocks) >= 8
