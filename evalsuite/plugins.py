"""The contracts: what each kind of plugin must have, and what it may have besides. Options are dataclass fields.

A plugin is a frozen dataclass (its fields are its options; one without a default must be given; the docstring's
first line is what ``evalsuite list`` prints). It keeps no state between calls: what lasts is returned or written
into the model, and every random draw takes the generator that is passed in. Every option changes what the plugin gives
in some setting of the others; one that changes time or memory alone says so by :func:`cost_only`.

What a plugin may have besides is read by :mod:`evalsuite.optional_members` alone, which gives its type and default.
No plugin inherits anything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from evalsuite.errors import RequestError
from evalsuite.task_arrays import (
    WrongTaskData,
    check_images,
    checked_classes,
    checked_groups,
    checked_labels,
    checked_normalisation,
)

if TYPE_CHECKING:
    import pandas as pd
    import torch
    from matplotlib.figure import Figure as MatplotlibFigure
    from torch import Tensor, nn

    from evalsuite.bits import BitPolicy
    from evalsuite.store import Run
    from evalsuite.streams import Domain, Stream

_T = TypeVar("_T")

UInt8Array = NDArray[np.uint8]
IntArray = NDArray[np.int64]

COST_ONLY = "cost_only"
"""Key in the metadata of a dataclass field that changes what a plugin costs and never what it gives."""


GIGABYTES = "gigabytes"
"""Key in the metadata of such a field that says how many gigabytes a plugin may hold."""


def cost_only(default: _T, *, gigabytes: bool = False) -> _T:
    """Declare an option, with its default, that changes what a plugin costs and never what it gives.

    Up to the order in which floating-point numbers are added. One that says how many gigabytes may be held says that it
    does (``gigabytes``): a run with a memory budget gives less.
    """
    declared: _T = field(default=default, metadata={COST_ONLY: True} | ({GIGABYTES: True} if gigabytes else {}))
    return declared


LATER = "later"
"""Key in the metadata of a dataclass field that came when records had been made without it."""


def later(default: _T) -> _T:
    """Return a dataclass field for an option that is new: at its default no record says it, as none did before.

    So settings keep their identity, and records their place, when a method learns something more.
    """
    found: _T = field(default=default, metadata={LATER: True})
    return found


@dataclass(frozen=True)
class TaskData:
    """The images of a task. Test images are never used for anything but testing.

    Labels may be of any integer type and become int64; group columns become arrays.

    Raises
    ------
    WrongTaskData
        A RequestError: an array has another shape, type or scale, or a label has no class.
    """

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
    data_set: str = ""
    """Name of the images' data set, the same for all tasks on them (for example ``cifar10``): a corruption's random
    draws are those of the data set, the image and the seed."""

    def __post_init__(self) -> None:
        check_images("test_images", self.test_images)
        check_images("pool_images", self.pool_images)
        if self.test_images.shape[1:] != self.pool_images.shape[1:]:
            shapes = f"test_images are {self.test_images.shape}, pool_images {self.pool_images.shape}"
            raise WrongTaskData(f"{shapes}: expected the same height and width")
        classes = checked_classes(self.classes)
        for part, images in (("test_labels", self.test_images), ("pool_labels", self.pool_images)):
            self._set(part, checked_labels(part, getattr(self, part), len(images), len(classes)))
        mean, std = checked_normalisation(self.mean, self.std)
        self._set("classes", classes)
        self._set("mean", mean)
        self._set("std", std)
        self._set("groups", checked_groups(self.groups, len(self.test_images)))
        if not isinstance(self.data_set, str):
            raise WrongTaskData(f"data_set = {self.data_set!r}: expected a text")

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)


@dataclass(frozen=True, eq=False)
class ImageFiles:
    """Images on disk as someone published them, read a few at a time."""

    version: str
    """Hash of the files' names, sizes and times: what was made of other files is not mistaken for these."""
    read: Callable[[IntArray], UInt8Array]
    """Return (n, H, W, 3) for n indices of test images."""


class Task(Protocol):
    """A data set, a trained network and their label space.

    Three optional members. ``architecture``, ``cnn`` or ``transformer``: without it the network's structure
    decides. ``published(root, domain, indices)``, where somebody published these test images corrupted: it returns
    the ``ImageFiles`` of a domain, having seen that those of the test images ``indices`` are there, and raises
    RequestError naming the missing file. ``found(root)``, where ``data`` and ``model`` take long or download:
    it says in a line what is there, and raises as they do.
    """

    @property
    def image_size(self) -> int:
        """Height and width of the network's input, pixels."""
        ...

    def data(self, root: str | None) -> TaskData:
        """Load the images. Raises RequestError naming the missing or broken file and where it belongs."""
        ...

    def model(self, root: str | None) -> nn.Module:
        """Build the network in eval mode with its trained weights; normalised images in, logits out."""
        ...


class Quantizer(Protocol):
    """A PTQ method. ``insert`` says what the quantized network looks like, ``calibrate`` fills it from images.

    The harness saves ``state_dict`` after ``calibrate`` and restores it into a fresh ``insert``, so everything
    that was learnt must be in parameters or buffers (else the trial is refused). The same images and
    seed must give the same bits. Optional class attributes: ``calibrated`` (default True): False says that bits and
    calibration set play no role (full precision); ``stochastic`` (default False): True says that another seed gives
    another result; ``engine`` (default ``simulated``): the name of the integer engine that computes. What is
    simulated may also run on an engine that a study asks for (:mod:`evalsuite.engines`), if ONNX can say its grids: an
    activation quantizer of a method's own says by ``beyond_onnx`` what it is.
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

    The harness owns batching, resets and accounting. A reset restores a deep copy of the state taken right after
    ``prepare``; hooks must therefore be bound methods of objects in the state. Optional class attribute ``adapts``
    (default True): False says that the model never changes, so that predictions may be shared between streams. Another,
    or a property, is ``expected_passes`` (default 3): image passes that a batch is expected to cost, a forward 1 and a
    backward 2, by which work is planned; what it did cost is counted. An optional method ``predict(state, images)``
    returns logits and learns nothing: of batches that a stream at constant speed does not wait for; without it the
    network as the last step left it predicts. The state that ``prepare`` returns may have a method ``facts()``, counts
    and lists of numbers of batches that become columns of the trial's row, an attribute ``adjust``, a function of
    logits applied to them in the loss, by which another method can balance it, and an attribute ``objective``, the loss
    of each row of those, by which an oracle can replace it. A method ``reveal(state, labels)`` makes an adapter an
    oracle: it is told the (N,) true labels of each batch before the step on it, and is left out of everything that
    compares methods.
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
class PoolOutputs:
    """What the full-precision network makes of every image of the pool."""

    logits: NDArray[np.float32]
    """(M, classes)"""
    features: NDArray[np.float32]
    """(M, D): what its classifier reads, the mean over positions where there are several."""


def _no_outputs() -> PoolOutputs:
    raise RequestError("this pool has no network to look at its images with: expected Pool(outputs=...)")


def _no_data(task: str, options: Mapping[str, Any]) -> TaskData:
    raise RequestError(f"this pool cannot load the images of {task!r}: expected Pool(load=...)")


@dataclass(frozen=True)
class Pool:
    """Where calibration images come from, and what may be asked about them.

    Attributes
    ----------
    images : (M, H, W, 3) uint8 RGB; may be memory-mapped.
    labels : (M,)
    classes : their names in label order; empty where they have none but their labels.
    mean, std : by which the network's input is normalised, on the scale 0..1.
    data_set : whose images these are.
    seed : the study's seed, for draws that must not depend on a step's other options; all else takes the
        generator that a step is given.
    outputs : the full-precision network's logits and features of all images, computed when first asked for and kept.
    load : the images of another task, by name and options, from the same data folder.
    """

    images: UInt8Array
    labels: IntArray
    classes: tuple[str, ...] = ()
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.25, 0.25, 0.25)
    data_set: str = ""
    seed: int = 0
    outputs: Callable[[], PoolOutputs] = _no_outputs
    load: Callable[[str, Mapping[str, Any]], TaskData] = _no_data

    def class_name(self, label: int) -> str:
        """Return a class's name, or its label where it has none."""
        return self.classes[label] if self.classes else str(label)


class Selection(Protocol):
    """A calibration step that chooses images."""

    def select(self, pool: Pool, indices: IntArray, generator: np.random.Generator) -> IntArray:
        """Return which of the pool images in ``indices`` to keep, none twice. Raises RequestError if impossible."""
        ...


class Transformation(Protocol):
    """A calibration step that changes images."""

    def transform(
        self, pool: Pool, images: UInt8Array, indices: IntArray, generator: np.random.Generator
    ) -> UInt8Array:
        """Return the (n, H, W, 3) images changed; image k has pool index ``indices[k]``."""
        ...


CalibrationStep: TypeAlias = Selection | Transformation
"""One step of a calibration-set shift: ``select``, ``transform`` or both; several compose.

All selections come first, then all transforms, each in the order of the list. Everything that can be refused should be
refused by ``select``, which is called for every calibration set before a run begins; a step that only transforms may
have one for that. Optional class attribute ``factor``: the kind of change that the step is, in words; ``reads``: names
and options of the tasks whose data it loads, which are then part of what its trials are.
"""


class StreamProtocol(Protocol):
    """An order of test images.

    Optional class attribute ``drawn_by``: the options that seed the generator of ``plan``, by default all; streams
    that differ in others only get the same draws. Optional property ``length``: images in the whole stream, where it
    is not the option ``images`` times the domains; ``evalsuite validate`` reads it.
    """

    def domains(self) -> tuple[Domain, ...]:
        """Return every domain that the stream shows."""
        ...

    def plan(self, labels: IntArray, generator: np.random.Generator) -> Stream:
        """Lay out the stream over a test set with these (N,) labels."""
        ...


class Figure(Protocol):
    """A figure of a report: ``data`` is all that ``draw`` sees, and what the CSV beside the picture holds.

    Optional method ``pages(data)``: the data cut into a list of frames, where one printed page has no room for all of
    it; each is drawn by itself. Optional class attribute ``order``: its position in the report; those without one
    follow by name.
    """

    def data(self, run: Run) -> pd.DataFrame:
        """Return the numbers to draw; an empty frame if the run has nothing for this figure."""
        ...

    def draw(self, data: pd.DataFrame) -> MatplotlibFigure:
        """Draw them."""
        ...
