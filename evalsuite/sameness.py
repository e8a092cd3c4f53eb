"""What has to be the same for results to be compared: a task's images and weights, and the libraries that compute."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

DIGESTS = {
    "data_digest": "images, labels or normalisation",
    "weights_digest": "weights",
    "source_digest": "code of the task's own file",
}
"""What ``study.json`` says of a task by a hash, and what of it then differs."""
MATTERING = ("torch", "numpy", "opencv-python", "scikit-image", "pillow")
"""The packages whose other versions may compute other predictions; their first two numbers are compared. *Ours.*"""
OF_IMAGES = MATTERING[1:]
"""Those of them that make corrupted images."""
_RELEASE = 2  # numbers of a version that are compared


def other_digests(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    """Return the names in ``DIGESTS`` in which the facts of one task in two runs differ."""
    return [name for name in DIGESTS if ours.get(name) != theirs.get(name)]


def other_releases(
    ours: Mapping[str, str], theirs: Mapping[str, str], packages: Sequence[str] = MATTERING
) -> list[str]:
    """Return the packages of which two runs had other releases."""
    return [name for name in packages if release(ours.get(name, "")) != release(theirs.get(name, ""))]


def release(version: str) -> Sequence[str]:
    """Return the numbers of a version that are compared; a build for another device is the same release."""
    return version.partition("+")[0].split(".")[:_RELEASE]
