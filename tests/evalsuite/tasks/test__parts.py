from __future__ import annotations

from pathlib import Path

import pytest
from _dummies.pictures import write_pictures

from evalsuite.errors import RequestError
from evalsuite.tasks._parts import parts_of

CLASSES = {"a": 1, "b": 1}


@pytest.mark.parametrize("train", ["train", "Train", "TRAIN", "training"])
@pytest.mark.parametrize("test", ["test", "Test", "val", "VALID", "Validation"])
def test_parts_in_any_case(tmp_path: Path, train: str, test: str):
    write_pictures(tmp_path / train, CLASSES)
    write_pictures(tmp_path / test, CLASSES)
    (tmp_path / "notes").mkdir()
    assert parts_of(tmp_path) == (tmp_path / test, tmp_path / train)


def test_test_comes_before_validation_and_may_be_alone(tmp_path: Path):
    write_pictures(tmp_path / "Val", CLASSES)
    assert parts_of(tmp_path) == (tmp_path / "Val", None)
    write_pictures(tmp_path / "Test", CLASSES)
    assert parts_of(tmp_path) == (tmp_path / "Test", None)


@pytest.mark.parametrize("train", ["train", "Train", "TRAINING"])
def test_training_images_alone_are_no_class(tmp_path: Path, train: str):
    write_pictures(tmp_path / train, CLASSES)
    with pytest.raises(RequestError, match=rf"has {train} but no test images: expected .*; or name .*{train} itself"):
        parts_of(tmp_path)
    write_pictures(tmp_path, {"test": 3})  # unlabelled
    with pytest.raises(RequestError, match="but no test images"):
        parts_of(tmp_path)
    assert parts_of(tmp_path / train) == (tmp_path / train, None)


@pytest.mark.parametrize("names", [("train",), ("Train", "test"), ("val",)])
def test_parts_without_classes_are_no_classes(tmp_path: Path, names: tuple[str, ...]):
    write_pictures(tmp_path, dict.fromkeys(names, 2))
    with pytest.raises(RequestError, match=f"has {' and '.join(sorted(names))} without classes in them"):
        parts_of(tmp_path)


def test_a_part_that_is_there_twice(tmp_path: Path):
    for name in ("test", "Test"):
        write_pictures(tmp_path / name, CLASSES)
    if len(list(tmp_path.iterdir())) < 2:
        pytest.skip("this file system takes test and Test for one name")
    with pytest.raises(RequestError, match="has Test and test: expected one of them"):
        parts_of(tmp_path)


def test_classes_may_be_called_like_a_part(tmp_path: Path):
    write_pictures(tmp_path, {"bus": 1, "train": 2, "tram": 1})
    assert parts_of(tmp_path) == (tmp_path, None)
