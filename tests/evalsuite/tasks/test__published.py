from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from _dummies.pictures import read_picture, write_pictures

from evalsuite.errors import RequestError
from evalsuite.streams import Domain
from evalsuite.tasks._pictures import Preparation
from evalsuite.tasks._published import corrupted_arrays, corrupted_pictures

LABELS = np.array([2, 0, 1, 1])


def write_arrays(folder: Path, *names: str) -> dict[str, np.ndarray]:
    folder.mkdir(exist_ok=True)
    generator = np.random.default_rng(0)
    images = {name: generator.integers(0, 256, (20, 32, 32, 3), dtype=np.uint8) for name in names}
    for name, array in images.items():
        np.save(folder / f"{name}.npy", array)
    np.save(folder / "labels.npy", np.tile(LABELS, 5))
    return images


def test_severity_s_is_the_s_th_fifth(tmp_path: Path):
    images = write_arrays(tmp_path / "C", "fog", "snow")
    for severity in range(1, 6):
        files = corrupted_arrays(tmp_path / "C", Domain("fog", severity), LABELS, 3)
        chosen = np.array([3, 1, 1])
        assert (files.read(chosen) == images["fog"][4 * (severity - 1) + chosen]).all()
    versions = {corrupted_arrays(tmp_path / "C", Domain(name, 1), LABELS, 3).version for name in ("fog", "snow")}
    assert len(versions) == 2


def test_arrays_that_are_not_there_or_not_right(tmp_path: Path):
    write_arrays(tmp_path / "C", "fog")
    with pytest.raises(RequestError, match=r"no file .*C/frost\.npy: expected uint8 images \(20, H, W, 3\) of C"):
        corrupted_arrays(tmp_path / "C", Domain("frost", 1), LABELS, 3)
    with pytest.raises(RequestError, match=r"labels\.npy is broken \(the labels differ\)"):
        corrupted_arrays(tmp_path / "C", Domain("fog", 1), LABELS[::-1], 3)
    with pytest.raises(RequestError, match=r"fog\.npy is broken \(uint8 of shape \(20, 32, 32, 3\)\)"):
        corrupted_arrays(tmp_path / "C", Domain("fog", 1), LABELS[:3], 3)
    (tmp_path / "C" / "labels.npy").write_bytes(b"")
    with pytest.raises(RequestError, match=r"labels\.npy is broken"):
        corrupted_arrays(tmp_path / "C", Domain("fog", 1), LABELS, 3)
    (tmp_path / "C" / "labels.npy").unlink()
    with pytest.raises(RequestError, match=r"no file .*labels\.npy"):
        corrupted_arrays(tmp_path / "C", Domain("fog", 1), LABELS, 3)


def test_pictures_by_corruption_severity_and_name(tmp_path: Path):
    write_pictures(tmp_path / "C" / "fog" / "2", {"n01": 2, "n02": 1}, size=(16, 16))
    names = ["n01/000.png", "n01/001.png", "n02/000.png"]
    files = corrupted_pictures(tmp_path / "C", Domain("fog", 2), names, np.arange(3), Preparation(16, 16))
    read = files.read(np.array([2, 0]))
    assert (read[0] == read_picture(tmp_path / "C" / "fog" / "2" / "n02" / "000.png")).all()
    assert (read[1] == read_picture(tmp_path / "C" / "fog" / "2" / "n01" / "000.png")).all()
    (tmp_path / "C" / "fog" / "2" / "n01" / "001.png").unlink()
    partly = corrupted_pictures(tmp_path / "C", Domain("fog", 2), names, np.array([0, 2]), Preparation(16, 16))
    assert partly.version != files.version
    with pytest.raises(RequestError, match=r"no file .*C/fog/2/n01/001\.png: expected the test image under fog at sev"):
        corrupted_pictures(tmp_path / "C", Domain("fog", 2), names, np.arange(3), Preparation(16, 16))
