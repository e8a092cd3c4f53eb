"""How a network is shown pictures: their preparation and the normalisation."""

from __future__ import annotations

from dataclasses import dataclass

from evalsuite.tasks._pictures import Preparation

Triple = tuple[float, float, float]

MEAN: Triple = (0.485, 0.456, 0.406)
STD: Triple = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Evaluation:
    """What a network's authors evaluate it with.

    Attributes
    ----------
    preparation : what is done to a picture.
    mean, std : by which the network's input is normalised, on the scale 0..1.
    """

    preparation: Preparation
    mean: Triple
    std: Triple


USUAL = Evaluation(Preparation(256, 224), MEAN, STD)
"""What most networks for ImageNet are evaluated with."""
