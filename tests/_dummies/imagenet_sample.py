"""The ImageNet sample with few classes."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from PIL import Image

from evalsuite.tasks._imagenet import wordnet_names
from evalsuite.tasks._imagenet_sample import STEM


def write_small_sample(root: Path, labels: int) -> None:
    """Write the first classes' rows and pictures, unpacked."""
    (root / STEM).mkdir(parents=True)
    generator = np.random.default_rng(0)
    with (root / f"{STEM}.csv").open("w", newline="") as text:
        rows = csv.writer(text)
        rows.writerow(["file", "label", "wnid", "name"])
        for label, (number, name) in enumerate(list(wordnet_names().items())[:labels]):
            rows.writerow([f"{number}.png", label, number, name])
            pixels = generator.integers(0, 256, (224, 230, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / STEM / f"{number}.png")
