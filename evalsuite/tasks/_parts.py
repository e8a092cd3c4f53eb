"""How a folder of pictures is divided: into classes, or first into a training and a test part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from evalsuite.errors import RequestError
from evalsuite.tasks._pictures import holds_pictures, sub_folders

_TRAIN = ("train", "training")
_TEST = ("test", "testing", "val", "valid", "validation")


def parts_of(folder: Path) -> tuple[Path, Path | None]:
    """Return the folder with the test images' classes, and that with the training images' where it is another.

    A part is a sub-folder of one of the parts' usual names, in small or capital letters, with pictures in sub-folders
    of its own; a class may be called ``train`` as long as its pictures lie in it directly and other classes do not
    bear such names.

    Raises
    ------
    RequestError
        If a part is there twice, or training images without test images, or parts without classes.
    """
    named = {entry.name: entry for entry in sub_folders(folder) if entry.name.lower() in (*_TRAIN, *_TEST)}
    parts = {name: entry for name, entry in named.items() if _has_classes(entry)}
    train, test = _part(folder, parts, _TRAIN), _part(folder, parts, _TEST)
    if test is not None:
        return test, train
    wanted = "expected train, and test or val, with a sub-folder of pictures for each class"
    if train is not None:
        raise RequestError(
            f"{folder} has {train.name} but no test images: {wanted}; or name {train} itself, to have it divided"
        )
    classes = [entry.name for entry in sub_folders(folder) if holds_pictures(entry)]
    if classes and all(name in named for name in classes):
        raise RequestError(f"{folder} has {' and '.join(classes)} without classes in them: {wanted}")
    return folder, None


def _has_classes(part: Path) -> bool:
    return any(holds_pictures(entry) for entry in sub_folders(part))


def _part(folder: Path, parts: Mapping[str, Path], names: Sequence[str]) -> Path | None:
    for wanted in names:
        alike = [entry for name, entry in parts.items() if name.lower() == wanted]
        if len(alike) > 1:
            raise RequestError(f"{folder} has {' and '.join(entry.name for entry in alike)}: expected one of them")
        if alike:
            return alike[0]
    return None
