from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from _dummies.models import tiny_resnet
from _dummies.pictures import read_picture, write_pictures
from safetensors.torch import save_file

from evalsuite.errors import RequestError
from evalsuite.registry import configure, list_options
from evalsuite.running.task_data import describe_task, task_data
from evalsuite.streams import Domain
from evalsuite.tasks.folder import Folder

CLASSES = {f"c{i}": 4 for i in range(5)}
SMALL = {"size": 16, "crop": 16}


def task(**options) -> Folder:
    return Folder(**{"images": "set", "network": "_dummies.models:tiny_resnet", **SMALL, **options})


@pytest.fixture
def root(tmp_path: Path) -> str:
    write_pictures(tmp_path / "set", CLASSES)
    return str(tmp_path)


@pytest.fixture
def split(tmp_path: Path) -> str:
    write_pictures(tmp_path / "set" / "train", CLASSES, seed=1)
    write_pictures(tmp_path / "set" / "val", {"c1": 2, "c3": 3, "c0": 1}, seed=2)
    return str(tmp_path)


def test_one_folder_is_split_once_and_for_ever(root: str):
    data = task().data(root)
    assert (len(data.test_images), len(data.pool_images)) == (16, 4)
    assert data.classes == ("c0", "c1", "c2", "c3", "c4")
    assert data.data_set == "set"
    both = np.concatenate([data.test_images, data.pool_images]).reshape(20, -1)
    assert len(np.unique(both, axis=0)) == 20
    again = task(mean=(0.1, 0.2, 0.3)).data(root)
    assert (again.test_images == data.test_images).all()
    assert again.mean == (0.1, 0.2, 0.3)


def test_train_and_val_are_pool_and_test_set(split: str):
    data = task(pool=7).data(split)
    assert data.pool_images.shape == (7, 16, 16, 3)
    assert data.classes == ("c0", "c1", "c2", "c3", "c4")
    assert sorted(data.test_labels.tolist()) == [0, 1, 1, 3, 3, 3]
    named = task(classes=("c4", "c3", "c2", "c1", "c0")).data(split)
    assert sorted(named.test_labels.tolist()) == [1, 1, 1, 3, 3, 4]
    assert sorted(set(named.pool_labels)) == [0, 1, 2, 3, 4]


def test_a_class_that_one_part_lacks_keeps_its_label(tmp_path: Path):
    write_pictures(tmp_path / "set" / "train", {"a": 3, "b": 3, "d": 3})
    write_pictures(tmp_path / "set" / "test", {"b": 1, "c": 1, "d": 1})
    (tmp_path / "set" / "test" / "a").mkdir()
    data = task().data(str(tmp_path))
    assert data.classes == ("a", "b", "c", "d")
    assert sorted(data.test_labels.tolist()) == [1, 2, 3]
    assert np.bincount(data.pool_labels).tolist() == [3, 3, 0, 3]


def test_names_that_are_not_utf8_are_refused_by_name_or_do_no_harm(root: str, monkeypatch: pytest.MonkeyPatch):
    odd = os.fsdecode(b"caf\xe9")
    folder = Path(root) / "set"
    (folder / "c0" / "000.png").rename(folder / "c0" / f"{odd}.png")
    assert len(task().data(root).test_images) == 16
    monkeypatch.chdir(root)
    (folder / "c1").rename(folder / odd)
    setting = configure("tasks", "folder", {"images": "set", "network": "_dummies.models:tiny_resnet", **SMALL})
    with pytest.raises(RequestError, match=r"task 'folder', class 'caf\\udce9': expected a name in UTF-8"):
        task_data(setting, root)


def test_pixels_are_those_of_the_files(split: str):
    write_pictures(Path(split) / "set" / "val", {"c0": 1}, size=(16, 16), seed=5)
    data = task().data(split)
    (only,) = data.test_images[data.test_labels == 0]
    assert (only == read_picture(Path(split) / "set" / "val" / "c0" / "000.png")).all()


@pytest.mark.parametrize("parts", [("set",), ("set/train", "set/test")])
def test_the_first_images_are_of_all_classes(tmp_path: Path, parts: tuple[str, ...]):
    for part in parts:
        write_pictures(tmp_path / part, dict.fromkeys(("a", "b", "c"), 20), size=(16, 16))
    labels = task().data(str(tmp_path)).test_labels
    for start in range(0, len(labels) - 12, 12):
        assert set(labels[start : start + 12]) == {0, 1, 2}


@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_checkpoints_as_training_leaves_them(root: str, suffix: str):
    source = tiny_resnet(seed=7)
    file = Path(root) / f"w.{suffix}"
    weights = {f"module.{name}": value for name, value in source.state_dict().items()}
    if suffix == "pt":
        torch.save({"epoch": 3, "state_dict": weights}, file)
    else:
        save_file(weights, file)
    network = task(checkpoint=f"w.{suffix}").model(root)
    images = torch.randn(2, 3, 16, 16)
    torch.testing.assert_close(network(images), source(images), rtol=0, atol=0)


def test_outputs_restrict_the_logits(split: str):
    network = task(classes=("c0", "c1", "c3"), outputs=(4, 0, 2)).model(split)
    images = torch.randn(2, 3, 16, 16)
    torch.testing.assert_close(network(images), tiny_resnet()(images)[:, [4, 0, 2]], rtol=0, atol=0)
    assert not network.training


def test_torchvision_and_timm_networks_take_the_number_of_classes(root: str):
    from evalsuite.torchvision_compat import import_torchvision

    torchvision = import_torchvision()
    torch.save(torchvision.models.get_model("squeezenet1_1", num_classes=5).state_dict(), Path(root) / "tv.pt")
    import timm

    torch.save({"model": timm.create_model("test_resnet", num_classes=5).state_dict()}, Path(root) / "timm.pt")
    for name, file in (("squeezenet1_1", "tv.pt"), ("timm:test_resnet", "timm.pt")):
        network = task(network=name, checkpoint=file, size=32, crop=32).model(root)
        assert network(torch.zeros(2, 3, 32, 32)).shape == (2, 5)


def test_a_factory_in_a_file(root: str, tmp_path: Path):
    file = tmp_path / "mine.py"
    file.write_text("from _dummies.models import tiny_transformer as factory\n")
    setting = configure("tasks", "folder", {"images": "set", "network": f"{file}:factory", **SMALL})
    facts = describe_task(setting, root)
    assert facts["architecture"] == "transformer"
    assert facts["image_size"] == 16
    assert facts["options"]["network"] == f"{file}:factory"
    file.write_text(file.read_text() + "# edited\n")
    assert describe_task(setting, root)["source_digest"] != facts["source_digest"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"images": "absent"}, "no folder .*absent: expected one with a sub-folder of pictures"),
        ({"network": "resnet5O"}, "unknown torchvision network 'resnet5O': did you mean 'resnet50'"),
        ({"network": "timm:vit_tny"}, "unknown timm network 'vit_tny': did you mean 'gcvit_tiny'.* in all"),
        ({"network": "_dummies.models:tiny_resnt"}, "has no 'tiny_resnt'"),
        ({"network": "_dummies.models:random_images"}, "returns a Tensor: expected a torch.nn.Module"),
        ({"network": "_dummies.models:TinyBlock"}, "TinyBlock fails: TypeError"),
        ({"network": "absent.py:net"}, "no file absent.py: expected path/to/file.py:factory"),
        ({"checkpoint": "absent.pt"}, r"no file .*absent\.pt"),
        ({"outputs": (0, 1)}, "2 outputs for 5 classes"),
        ({"outputs": (0, 1, 2, 3, 5)}, "tiny_resnet fails on"),
        ({"classes": ("c0", "c1", "c2", "c3", "d4")}, "not among the option classes, 'c4': did you mean"),
        ({"classes": ("c0", "c1", "c2", "c3", "c4", "c5")}, r"gives \(1, 5\) for one image: expected logits of the 6"),
    ],
)
def test_what_is_wrong_is_one_line(root: str, options: dict, message: str):
    with pytest.raises(RequestError, match=message) as caught:
        (task(**options).data(root), task(**options).model(root))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"crop": 32}, "size 16, crop 32: expected"),
        ({"pool": 0}, "pool = 0"),
        ({"std": (0.0, 1.0, 1.0)}, "deviations above 0"),
        ({"classes": ("a", "a")}, "expected each once"),
    ],
)
def test_impossible_options(options: dict, message: str):
    with pytest.raises(RequestError, match=message):
        configure("tasks", "folder", {"images": "set", "network": "resnet18", **SMALL, **options})


def test_options_that_must_be_given():
    with pytest.raises(RequestError, match="task 'folder' has no 'images': expected a value, it has no default"):
        configure("tasks", "folder")


def test_pictures_that_are_none(root: str):
    (Path(root) / "set" / "c2" / "002.png").write_bytes(b"no picture")
    with pytest.raises(RequestError, match=r"002\.png is broken"):
        task().data(root)


def test_folders_with_too_little(tmp_path: Path):
    (tmp_path / "set" / "a").mkdir(parents=True)
    with pytest.raises(RequestError, match="no pictures in"):
        task().data(str(tmp_path))
    write_pictures(tmp_path / "set", {"a": 1})
    with pytest.raises(RequestError, match="has one picture"):
        task().data(str(tmp_path))
    write_pictures(tmp_path / "other" / "train", {"a": 1})
    write_pictures(tmp_path / "other" / "test", {"b": 1})
    with pytest.raises(RequestError, match="pictures of none of the classes b"):
        task(images="other", classes=("b",)).data(str(tmp_path))


def write_groups(root: str, rows: list[tuple], columns=("file", "patient", "size")) -> None:
    pd.DataFrame(rows, columns=list(columns)).to_csv(Path(root) / "groups.csv", index=False)


ROWS = [(f"{name}/{i:03}.png", f"p{i}", 10 * i) for name, n in {"c0": 1, "c1": 2, "c3": 3}.items() for i in range(n)]


def test_groups_follow_their_files(split: str):
    write_groups(split, ROWS[::-1])
    data = task(groups="groups.csv").data(split)
    found = set(zip(data.test_labels.tolist(), data.groups["patient"], data.groups["size"], strict=True))
    assert found == {(int(file[1]), patient, size) for file, patient, size in ROWS}
    assert data.groups["size"].dtype == np.int64


def test_groups_of_a_split_folder_may_name_the_pool_too(root: str):
    write_groups(root, [(f"{name}/{i:03}.png", f"{name}{i}", 1) for name in CLASSES for i in range(4)])
    data = task(groups="groups.csv").data(root)
    assert len(data.groups["patient"]) == 16
    assert [text[:2] for text in data.groups["patient"]] == [data.classes[label] for label in data.test_labels]


@pytest.mark.parametrize(
    ("rows", "columns", "message"),
    [
        (ROWS[1:], ("file", "a", "b"), "1 are missing, the first c0/000.png"),
        ([*ROWS, ("c9/000.png", "p", 1)], ("file", "a", "b"), "c9/000.png is not among the images"),
        ([*ROWS, ROWS[2]], ("file", "a", "b"), "c1/001.png is twice"),
        (ROWS, ("name", "a", "b"), "columns name, a, b"),
        ([(row[0],) for row in ROWS], ("file",), "columns file"),
        ([(ROWS[0][0], None, 1), *ROWS[1:]], ("file", "a", "b"), "c0/000.png has no a"),
    ],
)
def test_groups_that_do_not_fit(split: str, rows: list, columns: tuple, message: str):
    write_groups(split, rows, columns)
    with pytest.raises(RequestError, match=message) as caught:
        task(groups="groups.csv").data(split)
    assert "groups.csv is broken" in str(caught.value)


def test_corrupted_pictures_of_one_s_own(split: str):
    for severity in range(1, 6):
        shown = Path(split) / "set-c" / "fog" / str(severity)
        write_pictures(shown, {"c0": 1, "c1": 2, "c3": 3}, size=(16, 16), seed=severity)
    own = task(corrupted="set-c")
    labels = own.data(split).test_labels
    files = own.published(split, Domain("fog", 3), np.arange(6))
    (place,) = np.flatnonzero(labels == 0)
    expected = read_picture(Path(split) / "set-c" / "fog" / "3" / "c0" / "000.png")
    assert (files.read(np.array([1, place]))[1] == expected).all()
    with pytest.raises(RequestError, match=r"no file .*set-c/snow/1/c\d/00\d\.png: expected the test image under snow"):
        own.published(split, Domain("snow", 1), np.arange(6))
    with pytest.raises(RequestError, match="expected its option corrupted"):
        task().published(split, Domain("fog", 3), np.arange(6))


def test_a_network_s_own_preparation_unless_the_study_says_otherwise():
    def options(network: str, **given) -> dict:
        return configure("tasks", "folder", {"images": "set", "network": network, **given}).values()

    vit = options("timm:vit_small_patch16_224")
    assert (vit["size"], vit["crop"], vit["interpolation"], vit["mean"]) == (248, 224, "bicubic", [0.5, 0.5, 0.5])
    inception = options("inception_v3", crop=256, std=[0.5, 0.25, 0.5])
    assert (inception["size"], inception["crop"], inception["std"]) == (342, 256, [0.5, 0.25, 0.5])
    usual = {"size": 256, "crop": 224, "interpolation": "bilinear", "mean": [0.485, 0.456, 0.406]}
    assert usual.items() <= options("resnet18").items()
    assert usual.items() <= options("mine.py:network").items()
    squashed = options("timm:convnext_base.fb_in22k_ft_in1k_384")
    assert squashed["resize"] == "both sides"


def test_lists_of_three_are_values_and_no_grid():
    assert {"mean", "std"} <= list_options("tasks", "folder")
