from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from _dummies.pictures import write_pictures
from PIL import Image

from evalsuite.errors import RequestError
from evalsuite.tasks import _pictures
from evalsuite.tasks._pictures import Preparation, decoded, decoded_folder, labelled, pictures
from evalsuite.torchvision_compat import import_torchvision


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(40, 40), (31, 50), (70, 33)])
def test_preparation_is_torchvision_s(tmp_path: Path, size, interpolation):
    write_pictures(tmp_path, {"a": 1}, size=size)
    file = tmp_path / "a" / "000.png"
    transforms = import_torchvision().transforms
    steps = [transforms.Resize(30, transforms.InterpolationMode(interpolation)), transforms.CenterCrop(24)]
    expected = np.asarray(transforms.Compose(steps)(Image.open(file)))
    assert (Preparation(30, 24, interpolation).of(file) == expected).all()


def test_grey_and_transparent_pictures_become_colour(tmp_path: Path):
    for mode, colour in (("L", 7), ("RGBA", (7, 7, 7, 100)), ("1", 0)):
        Image.new(mode, (8, 8), colour).save(tmp_path / "a.png")
        assert Preparation(8, 8).of(tmp_path / "a.png").shape == (8, 8, 3)


def test_pictures_are_found_by_class_and_nothing_else_is(tmp_path: Path):
    write_pictures(tmp_path, {"b": 2, "a": 1})
    write_pictures(tmp_path / "a", {"deeper": 1})
    (tmp_path / "a" / ".hidden.png").touch()
    (tmp_path / "a" / "notes.txt").touch()
    (tmp_path / "empty").mkdir()
    (tmp_path / "file.png").touch()
    found = pictures(tmp_path)
    assert {name: [file.name for file in files] for name, files in found.items()} == {
        "a": ["000.png", "000.png"],
        "b": ["000.png", "001.png"],
    }
    files, labels = labelled(found, ["b", "c", "a"])
    assert labels.tolist() == [0, 0, 2, 2]
    assert files[0] == tmp_path / "b" / "000.png"


def test_pictures_are_decoded_once(tmp_path: Path, monkeypatch):
    write_pictures(tmp_path, {"a": 5})
    files = pictures(tmp_path)["a"]
    first = decoded(files, Preparation(16, 16))
    assert isinstance(first, np.memmap)
    monkeypatch.setattr(_pictures, "_prepared", lambda *arguments: pytest.fail("decoded again"))
    assert (decoded(files, Preparation(16, 16)) == first).all()
    monkeypatch.undo()


def test_other_pictures_or_another_preparation_are_other_files(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("EVALSUITE_CACHE", str(tmp_path / "shared"))
    write_pictures(tmp_path / "set", {"a": 3})
    files = pictures(tmp_path / "set")["a"]
    decoded(files, Preparation(16, 16))
    decoded(files, Preparation(18, 16))
    os.utime(files[0], (1, 1))
    decoded(files, Preparation(16, 16))
    kept = list(decoded_folder().iterdir())
    assert decoded_folder() == tmp_path / "shared" / "decoded"
    assert len(kept) == 3
    kept[0].write_bytes(b"cut off")
    assert decoded(files, Preparation(16, 16)).shape == (3, 16, 16, 3)
    assert decoded(files, Preparation(18, 16)).shape == (3, 16, 16, 3)


def test_order_is_kept_over_many_pictures(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(_pictures, "_TOGETHER", 3)
    write_pictures(tmp_path, {"a": 10}, size=(8, 8))
    files = pictures(tmp_path)["a"]
    prepared = Preparation(8, 8)
    assert (decoded(files, prepared) == np.stack([prepared.of(file) for file in files])).all()


def test_missing_pictures_and_folders(tmp_path: Path, monkeypatch):
    with pytest.raises(RequestError, match=r"no file .*a\.png: expected a picture"):
        decoded([tmp_path / "a.png"], Preparation(8, 8))
    with pytest.raises(RequestError, match=r"no file .*a\.png: expected a picture"):
        Preparation(8, 8).of(tmp_path / "a.png")
    with pytest.raises(RequestError, match="no class folders in"):
        pictures(tmp_path / "absent")
    write_pictures(tmp_path / "set", {"a": 1})
    (tmp_path / "blocked").touch()
    monkeypatch.setenv("EVALSUITE_CACHE", str(tmp_path / "blocked"))
    with pytest.raises(RequestError, match="expected a folder for decoded pictures, see EVALSUITE_CACHE"):
        decoded(pictures(tmp_path / "set")["a"], Preparation(8, 8))
