"""Images and a network trained on them, to begin with: made up here, to be replaced by yours.

Does it keep its contract? ``pytest test_mine.py``.
In a study: ``tasks = ["mine.py:Mine"]``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import nn

from evalsuite.errors import RequestError
from evalsuite.plugins import IntArray, TaskData, UInt8Array

CLASSES = ("upper left", "upper right", "lower left", "lower right")
MEAN, STD = (0.5, 0.5, 0.5), (0.2, 0.2, 0.2)  # by which the network's input is normalised


@dataclass(frozen=True)
class Mine:
    """Which quarter of a grey picture is lighter; a CNN of two layers.

    Parameters
    ----------
    light : how many grey levels lighter it is, 1..100.
    """

    # Options are fields. Each has to change something, and one without a default has to be given.
    light: int = 40

    image_size: ClassVar[int] = 32

    def __post_init__(self) -> None:
        if not 1 <= self.light <= 100:
            raise RequestError(f"light = {self.light}: expected 1..100 grey levels")

    def data(self, root: str | None) -> TaskData:
        """Load the images; ``root`` is the folder that ``--data-root`` names.

        Raise RequestError for a file that is missing, with its name and where it belongs. Calibration images are drawn
        from the pool, which may hold no test image.
        """
        images, labels = self._pictures(400)
        return TaskData(
            test_images=images[:240],  # (N, H, W, 3) uint8, memory-mapped for example by np.load(file, mmap_mode="r")
            test_labels=labels[:240],
            pool_images=images[240:],
            pool_labels=labels[240:],
            classes=CLASSES,
            mean=MEAN,
            std=STD,
            groups={"photographer": np.array(["a", "b", "c"])[np.arange(240) % 3]},  # more groups to look for harm in
        )

    def model(self, root: str | None) -> nn.Module:
        """Build the network with its trained weights, in eval mode: normalised images in, logits out."""
        with torch.random.fork_rng(devices=[]):  # its first weights are drawn: the process's generator stays as it was
            network = nn.Sequential(nn.Conv2d(3, 4, 8, 8), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(16, 4))
        # In place of what follows: network.load_state_dict(torch.load(file, weights_only=True))
        state = network.state_dict()
        gains = torch.tensor([1.0, -1.0, 2.0, -2.0])  # of four channels, two of which see what is darker than usual
        state["0.weight"] = (gains[:, None, None, None] / 192).expand(4, 3, 8, 8).clone()
        state["0.bias"] = torch.full((4,), 0.5)
        state["4.weight"] = torch.kron(gains[None], torch.eye(4))
        state["4.bias"] = torch.zeros(4)
        network.load_state_dict(state)
        return network.eval()

    def _pictures(self, count: int) -> tuple[UInt8Array, IntArray]:
        generator = np.random.default_rng(0)  # the same pictures each time
        labels = np.arange(count) % 4
        lit = self.light * np.kron(np.eye(4).reshape(4, 2, 2), np.ones((16, 16)))
        shade = generator.uniform(80, 120, (count, 1, 1)) + generator.normal(0, 30, (count, 32, 32))
        grey = np.clip(shade + lit[labels], 0, 255).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=-1), labels
