from __future__ import annotations

import os
import struct
from pathlib import Path

import numpy as np
import pytest
from _dummies.pictures import write_pictures
from PIL import Image

from evalsuite.errors import RequestError
from evalsuite.tasks import _pictures
from evalsuite.tasks._pictures import Preparation, decoded, decoded_folders, labelled, pictures
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


LEVELS = np.array([[0, 257 * 10, 257 * 128, 65535]] * 4, np.uint16)


def test_both_sides_are_resized_as_timm_squashes(tmp_path: Path):
    write_pictures(tmp_path, {"a": 1}, size=(31, 50))
    file = tmp_path / "a" / "000.png"
    import_torchvision()
    from timm.data import create_transform

    steps = create_transform((3, 24, 24), crop_pct=0.8, crop_mode="squash", interpolation="bicubic", normalize=False)
    expected = np.asarray(steps(Image.open(file))).transpose(1, 2, 0)
    assert (Preparation(30, 24, "bicubic", "both sides").of(file) == expected).all()
    assert (Preparation(30, 24, "bicubic").of(file) != expected).any()


@pytest.mark.parametrize("suffix", ["png", "tif", "pgm"])
def test_grey_of_sixteen_bits_keeps_its_scale(tmp_path: Path, suffix: str):
    file = tmp_path / f"a.{suffix}"
    Image.fromarray(LEVELS).save(file)
    expected = np.repeat(np.array([[0, 10, 128, 255]] * 4, np.uint8)[..., None], 3, axis=2)
    np.testing.assert_array_equal(Preparation(4, 4).of(file), expected)


def test_grey_of_a_tiff_in_big_endian_twelve_bits_or_inverted(tmp_path: Path):
    file = tmp_path / "a.tif"
    file.write_bytes(tiff(LEVELS.astype(">u2").tobytes(), bits=16, photometric=1, order=">"))
    assert Preparation(4, 4).of(file)[0, :, 0].tolist() == [0, 10, 128, 255]
    file.write_bytes(tiff(LEVELS.tobytes(), bits=16, photometric=0, order="<"))
    assert Preparation(4, 4).of(file)[0, :, 0].tolist() == [255, 245, 127, 0]
    twelve = bytes([0x00, 0x08, 0x00, 0x40, 0x0F, 0xFF]) * 4  # 0, 2048, 1024, 4095
    file.write_bytes(tiff(twelve, bits=12, photometric=1, order="<"))
    assert Preparation(4, 4).of(file)[0, :, 0].tolist() == [0, 128, 64, 255]


def tiff(pixels: bytes, bits: int, photometric: int, order: str) -> bytes:
    """A grey picture of 4 x 4, one uncompressed strip (TIFF 6.0)."""
    values = {256: 4, 257: 4, 258: bits, 259: 1, 262: photometric, 273: 8, 277: 1, 278: 4, 279: len(pixels)}
    entries = [struct.pack(f"{order}HHIHH", tag, 3, 1, value, 0) for tag, value in values.items()]
    start = struct.pack(f"{order}2sHI", b"II" if order == "<" else b"MM", 42, 8 + len(pixels))
    return start + pixels + struct.pack(f"{order}H", len(entries)) + b"".join(entries) + bytes(4)


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_pictures_without_a_scale_are_refused_by_name(tmp_path: Path, dtype):
    file = tmp_path / "a.tiff"
    Image.fromarray(LEVELS.astype(dtype)).save(file)
    with pytest.raises(RequestError, match=r"a\.tiff is broken \(its pixels are .*save it with 8 or 16 bits\)"):
        Preparation(4, 4).of(file)


def test_hidden_folders_are_no_classes_and_hold_no_pictures(tmp_path: Path):
    write_pictures(tmp_path, {"a": 2, ".ipynb_checkpoints": 1, ".hidden": 2})
    write_pictures(tmp_path / "a", {".ipynb_checkpoints": 2, "deeper": 1})
    found = pictures(tmp_path)
    assert list(found) == ["a"]
    assert [file.relative_to(tmp_path).as_posix() for file in found["a"]] == [
        "a/000.png",
        "a/001.png",
        "a/deeper/000.png",
    ]


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
    kept = list(decoded_folders()[-1].iterdir())
    assert decoded_folders() == (tmp_path / "shared" / "decoded",)
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
    with pytest.raises(RequestError, match=r"no folder .*absent: expected one with a sub-folder of pictures"):
        pictures(tmp_path / "absent")
    write_pictures(tmp_path / "set", {"a": 1})
    (tmp_path / "blocked").touch()
    monkeypatch.setenv("EVALSUITE_CACHE", str(tmp_path / "blocked"))
    with pytest.raises(RequestError, match="expected a folder for decoded pictures, see EVALSUITE_CACHE"):
        decoded(pictures(tmp_path / "set")["a"], Preparation(8, 8))
