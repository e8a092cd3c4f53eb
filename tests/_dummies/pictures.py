"""Folders of small pictures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image


def write_pictures(folder: Path, counts: Mapping[str, int], size: tuple[int, int] = (20, 24), seed: int = 0) -> None:
    """Write so many pictures (lossless noise, height and width ``size``) into a sub-folder for each class."""
    generator = np.random.default_rng(seed)
    for name, count in counts.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            pixels = generator.integers(0, 256, (*size, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number:03}.png", compress_level=0)


def read_picture(file: Path) -> np.ndarray:
    with Image.open(file) as picture:
        return np.asarray(picture.convert("RGB"))
