"""The contracts: what each kind of plugin is asked for. Two methods each, options as dataclass fields.

A plugin is a frozen dataclass (its fields are its options, all with defaults; the docstring's first line is
what ``evalsuite list`` prints). It keeps no state between calls: what lasts is returned or written into the
model, and every random draw takes the generator that is passed in.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd
    import torch
    from matplotlib.figure import Figure as MatplotlibFigure
    from torch import Tensor, nn

    from evalsuite.quantization.policy import BitPolicy
    from evalsuite.store import Run
    from evalsuite.streams import Domain, Stream

UInt8Array = NDArray[np.uint8]
IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class TaskData:
    """The images of a task. Test images are never used for anything but testing."""

    test_images: UInt8Array
    """(N, H, W, 3) RGB; may be memory-mapped."""
    test_labels: IntArray
    """(N,)"""
    pool_images: UInt8Array
    """(M, H, W, 3): where calibration sets are drawn from."""
    pool_labels: IntArray
    """(M,)"""
    classes: tuple[str, ...]
    mean: tuple[float, float, float]
    """Channel means by which the network's input is normalised, on the scale 0..1."""
    std: tuple[float, float, float]
    groups: dict[str, NDArray[Any]] = field(default_factory=dict)
    """Further columns, one value per test image (for example a patient subgroup)."""


class Task(Protocol):
    """A data set, a trained network and their label space."""

    image_size: ClassVar[int]
    """Height and width of the network's input, pixels."""
    architecture: ClassVar[Literal["cnn", "transformer"]]

    def data(self, root: str | None) -> TaskData:
        """Load the images. Raises RequestError naming the missing or broken file and where it belongs."""
        ...

    def model(self, root: str | None) -> nn.Module:
        """Build the network in eval mode with its trained weights; normalised images in, logits out."""
        ...


class Quantizer(Protocol):
    """A PTQ method. ``insert`` says what the quantized network looks like, ``calibrate`` fills it from images.

    The harness saves ``state_dict`` after ``calibrate`` and restores it into a fresh ``insert``, so everything
    that was learnt must be in parameters or buffers. Optional class attribute ``calibrated`` (default True):
    False says that bits and calibration set play no role (full precision).
    """

    def insert(self, model: nn.Module, bits: BitPolicy, example: Tensor) -> nn.Module:
        """Return a quantized copy of ``model``, which stays untouched.

        ``example``: a (1, C, H, W) normalised batch to find the order of execution. Raises Refused, with the
        module's name, for an operation that cannot be quantized.
        """
        ...

    def calibrate(self, model: nn.Module, images: Tensor, generator: torch.Generator) -> None:
        """Set ranges, rounding... of what ``insert`` returned from (N, C, H, W) normalised images, in place."""
        ...


class Adapter(Protocol):
    """A test-time adaptation method.

    The harness owns batching, resets and accounting. A reset restores a deep copy of the state taken right
    after ``prepare``; hooks must therefore be bound methods of objects in the state. Optional class attribute
    ``adapts`` (default True): False says that the model never changes, so that predictions may be shared
    between streams.
    """

    def prepare(self, model: nn.Module, source: Tensor, generator: torch.Generator) -> Any:
        """Take a private copy of a model, may change it, and return the state.

        ``source``: (N, C, H, W) unlabelled clean images. Raises Refused with the reason where the method
        does not apply.
        """
        ...

    def step(self, state: Any, images: Tensor) -> Tensor:
        """Adapt on one (N, C, H, W) batch in place and return its logits (N, classes)."""
        ...


@dataclass(frozen=True)
class Pool:
    """Where calibration images come from, and the full-precision network to look at them with."""

    images: UInt8Array
    labels: IntArray
    classes: int
    model: nn.Module | None = None
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)


class CalibrationStep(Protocol):
    """One step of a calibration-set shift; several compose: all selections first, then all transforms."""

    def select(self, pool: Pool, indices: IntArray, generator: np.random.Generator) -> IntArray:
        """Return which of the pool images in ``indices`` to keep. Raises RequestError if impossible."""
        ...

    def transform(self, images: UInt8Array, indices: IntArray, generator: np.random.Generator) -> UInt8Array:
        """Return the (n, H, W, 3) images changed; image k has pool index ``indices[k]``."""
        ...


class StreamProtocol(Protocol):
    """An order of test images."""

    def domains(self) -> tuple[Domain, ...]:
        """Return every domain that the stream shows."""
        ...

    def plan(self, labels: IntArray, generator: np.random.Generator) -> Stream:
        """Lay out the stream over a test set with these (N,) labels."""
        ...


class Figure(Protocol):
    """A figure of a report: ``data`` is all that ``draw`` sees, and what the CSV beside the picture holds."""

    def data(self, run: Run) -> pd.DataFrame:
        """Return the numbers to draw; an empty frame if the run has nothing for this figure."""
        ...

    def draw(self, data: pd.DataFrame) -> MatplotlibFigure:
        """Draw them."""
        ...
