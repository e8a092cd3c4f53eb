"""What a network owes that was handed in to be measured: what can be asked without a look inside."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from evalsuite.bits import BitPolicy
from evalsuite.testing._check import Check, Failed, Question, factory, make, scatter
from evalsuite.testing.quantizers import _process, _restored, _runs, _same_seed, _saved, _source, _Subject

_ROUNDING = 1e-3  # of the largest logit, below which a difference is one of rounding; ours


def network_checks(
    quantizer: Any,
    *,
    model: nn.Module,
    images: Tensor,
    bits: BitPolicy = BitPolicy(8, 8),  # noqa: B008 - frozen
) -> list[Check]:
    """Check a quantizer that stands for a network which was handed in: what can be asked without a look inside.

    Parameters
    ----------
    quantizer : a class, an instance, an entry point's name, ``package.module:Class`` or ``path.py:Class``.
    model : the task's network, in eval mode.
    images : (N, C, H, W) normalised images of the task, at least 2.
    bits : those that it is measured at.

    Raises
    ------
    RequestError
        If the quantizer cannot be found or made.
    """
    subject = _Subject(factory("quantizers", quantizer), lambda: copy.deepcopy(model), images, bits)
    fixed, saved = "Hand in a network that nothing draws in or moves.", "Keep what is learnt in its buffers."
    restore = "Put back what you set, for example by torch.no_grad()."
    asked: list[tuple[str, Callable[[_Subject], None], str, bool]] = [
        # First: a file that is read for the first time may draw as it likes.
        ("the network can be read", _reads, "Make its file one that can be read.", True),
        ("the network runs", _runs, "Make it run on the task's images.", True),
        ("the task's network is untouched", _source, "Work on a copy of it.", True),
        ("the same images give the same logits", _repeats, fixed, True),
        ("reading it again gives the same", _same_seed, fixed, True),
        ("its state restores it", _restored, saved, True),
        ("its state can be saved and loaded", _saved, saved, True),
        ("the process is left as it was", _process, restore, True),
        ("one image alone gives what it gives among others", _alone, "Fix the ranges of activations.", False),
        ("NaN in an image does not change the others", _beside, "Fix the ranges of activations.", False),
    ]
    return make([Question(name, functools.partial(ask, subject), mend, spoils) for name, ask, mend, spoils in asked])


def _reads(subject: _Subject) -> None:
    subject.insert()


@torch.no_grad()
def _repeats(subject: _Subject) -> None:
    twin, given = subject.twin(), subject.images.clone()
    first = twin(given)
    if not torch.equal(given, subject.images):
        raise Failed("it changed the images that it was given")
    scatter(2)
    if not torch.equal(twin(given), first):
        raise Failed("two runs on the same images give different logits")


@torch.no_grad()
def _alone(subject: _Subject) -> None:
    twin = subject.twin()
    among, alone = twin(subject.images), torch.cat([twin(image[None]) for image in subject.images])
    difference = float((among - alone).abs().max() / among.abs().max().clamp_min(1e-12))
    if difference > _ROUNDING:
        raise Failed(f"logits differ by {difference:.2g} of the largest: they depend on what else is in the batch")


@torch.no_grad()
def _beside(subject: _Subject) -> None:
    twin, broken = subject.twin(), subject.images.clone()
    broken[0, 0, 0, 0] = torch.nan
    expected, found = twin(subject.images)[1:], twin(broken)[1:]
    if not torch.allclose(found, expected, rtol=0, atol=_ROUNDING * float(expected.abs().max())):
        raise Failed("the logits of other images in the batch change")
