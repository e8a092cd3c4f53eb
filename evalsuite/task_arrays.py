"""Whether a task's arrays are what they should be; each failure is one line that says what was given and expected."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evalsuite.errors import RequestError

_LOOKED_AT = 256  # images whose range of values is looked at
_GROUP_KINDS = "biufU"  # numpy's: booleans, integers, floats, text


class WrongTaskData(RequestError):
    """An array of a task has another shape, type or scale than it should have."""


def check_images(name: str, images: Any) -> None:
    """Raise WrongTaskData unless images are (N, H, W, 3) uint8 on the scale 0..255; may be memory-mapped."""
    expected = "expected a numpy array (N, H, W, 3) of uint8, RGB, 0..255"
    if not isinstance(images, np.ndarray):
        raise WrongTaskData(f"{name} are a {_type_name(images)}: {expected}")
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3 or 0 in images.shape:
        raise WrongTaskData(f"{name} are {images.dtype} {images.shape}: {expected}")
    if images[:_LOOKED_AT].max() == 1:
        raise WrongTaskData(f"{name} hold only 0 and 1: {expected}")


def checked_labels(name: str, labels: Any, images: int, classes: int) -> NDArray[np.int64]:
    """Return (N,) labels of any integer type as int64. Raises WrongTaskData unless one per image, 0..classes-1."""
    expected = f"expected a numpy array ({images},) of integers 0..{classes - 1}, one per image, as there are classes"
    if not isinstance(labels, np.ndarray):
        raise WrongTaskData(f"{name} are a {_type_name(labels)}: {expected}")
    if labels.shape != (images,) or not np.issubdtype(labels.dtype, np.integer):
        raise WrongTaskData(f"{name} are {labels.dtype} {labels.shape}: {expected}")
    if labels.min() < 0 or labels.max() >= classes:
        raise WrongTaskData(f"{name} are {labels.min()}..{labels.max()}: {expected}")
    return labels.astype(np.int64, copy=False)


def checked_classes(classes: Any) -> tuple[str, ...]:
    """Return the classes' names as a tuple. Raises WrongTaskData unless they are texts, each once."""
    expected = "expected the classes' names in label order, texts, each once"
    if isinstance(classes, str) or not isinstance(classes, Sequence):
        raise WrongTaskData(f"classes are a {_type_name(classes)}: {expected}")
    wrong = next((name for name in classes if not isinstance(name, str) or not name), None)
    if wrong is not None or not len(classes):
        raise WrongTaskData(f"classes hold {wrong!r}: {expected}" if len(classes) else f"no classes: {expected}")
    twice = next((name for k, name in enumerate(classes) if name in classes[:k]), None)
    if twice is not None:
        raise WrongTaskData(f"classes hold {twice!r} twice: {expected}")
    return tuple(classes)


def checked_normalisation(mean: Any, std: Any) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Return channel means and deviations. Raises WrongTaskData unless they are three each, on the scale 0..1."""
    means, deviations = _three("mean", mean), _three("std", std)
    if not all(0 <= value <= 1 for value in means) or not all(0 < value <= 1 for value in deviations):
        raise WrongTaskData(
            f"mean {means}, std {deviations}: expected both on the scale 0..1 of images divided by 255, std above 0"
        )
    return means, deviations


def checked_groups(groups: Any, images: int) -> dict[str, NDArray[Any]]:
    """Return group columns as arrays. Raises WrongTaskData unless each has a plain value for every test image."""
    if not isinstance(groups, Mapping):
        raise WrongTaskData(f"groups are a {_type_name(groups)}: expected columns by name")
    for name in groups:
        if not isinstance(name, str) or not name:
            raise WrongTaskData(f"group column {name!r}: expected a text as its name")
    return {name: _checked_column(name, values, images) for name, values in groups.items()}


def _checked_column(name: str, values: Any, images: int) -> NDArray[Any]:
    expected = f"expected {images}, one per test image: texts, integers, booleans or finite floats"
    try:
        column = np.asarray(values)
    except ValueError as error:  # rows of several lengths
        raise WrongTaskData(f"group column {name!r} is a {_type_name(values)}: {expected}") from error
    if column.shape != (images,):
        raise WrongTaskData(f"group column {name!r} of shape {column.shape}: {expected}")
    texts = column.dtype == object and all(isinstance(value, str) for value in column)
    if not texts and column.dtype.kind not in _GROUP_KINDS:
        wrong = [value for value in column.tolist() if not isinstance(value, str)]
        raise WrongTaskData(f"group column {name!r} of {column.dtype} holds {wrong[0]!r}: {expected}")
    if column.dtype.kind == "f" and not np.isfinite(column).all():
        raise WrongTaskData(f"group column {name!r} holds {column[~np.isfinite(column)][0]}: {expected}")
    return column


def _three(name: str, values: Any) -> tuple[float, float, float]:
    try:
        red, green, blue = (float(value) for value in values)
    except (TypeError, ValueError) as error:
        raise WrongTaskData(f"{name} = {values!r}: expected three numbers, one per channel") from error
    if not all(map(math.isfinite, (red, green, blue))):
        raise WrongTaskData(f"{name} = {values!r}: expected finite numbers")
    return red, green, blue


def _type_name(value: Any) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")
