"""NEO: features moved back to where the classifier expects them (Murphy et al. 2026, ICLR; arXiv 2510.05635).

Written from the paper's abstract and summaries. Where they are silent the docstrings say *choice*.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from evalsuite.adapters._observer import Observer, source_statistics
from evalsuite.errors import Refused, RequestError
from evalsuite.structure import describe


@dataclass(frozen=True)
class NEO:
    """Latent re-centering: the running mean of the classifier's input is subtracted, the source's put back.

    A shift moves the features of all images by much the same vector; without it they lie where the classifier was
    trained. One forward pass a batch, no backward pass, and no parameter of the network changes. A batch enters the
    running mean before it is predicted (*choice*); so the first image, where it comes alone, is the mean itself.

    Parameters
    ----------
    momentum : share of the past in the running mean, a step a batch, for domains that change; None: all images seen
        so far count alike. *Choice*: 0.9, as in FOA's activation shift.
    centre : where features are centred: at the mean of the ``source`` images' or, as in the paper, which needs none,
        at the ``origin``. *Choice*: source, for features behind a ReLU have their mean far from 0.

    Raises
    ------
    RequestError
        If ``momentum`` is not in [0, 1).
    """

    expected_passes: ClassVar[float] = 1

    momentum: float | None = 0.9
    centre: Literal["source", "origin"] = "source"

    def __post_init__(self) -> None:
        if self.momentum is not None and not 0.0 <= self.momentum < 1.0:
            raise RequestError(f"momentum = {self.momentum}: expected 0 <= momentum < 1, or none")

    @torch.no_grad()
    def prepare(self, model: nn.Module, source: Tensor, generator: torch.Generator) -> NEOState:
        """Measure the source's mean feature. Refused unless the head maps one feature vector to the model's logits."""
        observer = Observer(model, describe(model, source))
        _, mean, shiftable = source_statistics(observer, source)
        if not shiftable:
            raise Refused("neo needs a classifier on one feature vector per image whose output is the model's")
        return NEOState(observer, mean if self.centre == "source" else torch.zeros_like(mean))

    @torch.no_grad()
    def step(self, state: NEOState, images: Tensor) -> Tensor:
        """Return the (N, classes) logits of (N, C, H, W) images whose features have been re-centred."""
        feature = state.observer(images).feature
        mean = state.follow(feature, self.momentum)
        return state.observer.classify(feature - mean + state.centre)


@dataclass
class NEOState:
    """What NEO keeps between batches.

    Attributes
    ----------
    centre : (D,) where features are moved to.
    mean : (D,) running mean of features; None before the first batch.
    images : how many have been seen.
    """

    observer: Observer
    centre: Tensor
    mean: Tensor | None = None
    images: int = 0

    def follow(self, feature: Tensor, momentum: float | None) -> Tensor:
        """Take (N, D) features into the running mean and return it, (D,)."""
        self.images += len(feature)
        share = len(feature) / self.images if momentum is None else 1.0 - momentum
        own = feature.mean(dim=0)
        self.mean = own if self.mean is None else torch.lerp(self.mean, own, share)
        return self.mean
