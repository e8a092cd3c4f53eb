"""What reconstruction is asked: options, passes, ranges of a unit."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor, nn

from evalsuite.errors import RequestError
from evalsuite.plugins import cost_only
from evalsuite.quantization.grids.range_setting import set_activation_ranges
from evalsuite.quantization.grids.ranges import RangeOptions
from evalsuite.quantization.reconstruction.losses import Loss, Situation
from evalsuite.quantization.reconstruction.scratch import Kept, Scratch
from evalsuite.quantization.reconstruction.units import Unit

_GREATEST_GAIN = 10.0


def scaled_rate(rate: float, published: int, iterations: int) -> float:
    """Return the learning rate for some iterations where a paper gives one for ``published``.

    It grows as the root of their ratio, tenfold at the most: ours. With some hundred iterations the papers' rates
    hardly move anything; with a handful, one step of a rate without a bound would throw a scale far off.
    """
    return rate * min(math.sqrt(published / iterations), _GREATEST_GAIN)


@dataclass(frozen=True)
class ReconstructionOptions(RangeOptions):
    """The options that methods share which learn by reconstruction.

    The error is squared, summed over output channels and averaged over images and places.

    Parameters
    ----------
    iterations : Adam's steps for each unit; 20,000, as in BRECQ (arXiv 2102.05426).
    batch_size : images a step; 32, as in BRECQ.
    learning_rate : of the rounding; None takes AdaRound's 1e-3 (arXiv 2004.10568) at 20,000 iterations, and more for
        fewer, by the square root of their ratio, tenfold at the most (*ours*).
    regulariser : weight of the sum of 1 - abs(2h - 1)^b over the weights in the loss; 0.01, as in AdaRound.
    warmup : the first share of the iterations, 0 to below 1, without regulariser; 0.2, as in AdaRound's programs.
    b_start : the exponent b at the end of the warm-up; 20, as in AdaRound.
    b_end : the exponent b at the end of the iterations, which it reaches by half a cosine; 2, as in AdaRound.
    cache_gigabytes : 2^30 bytes of memory for what is kept; beyond, it lies in temporary files. Changes speed only.
    precision : of convolutions and products while rounding alone is learnt. ``bfloat16`` is faster on processors that
        have it, and its noise is far below that of few bits; first layer and classifier, and everything else, stay in
        single precision (*ours*).
    range, weight_range, percentile, steps, norm, bins : see :class:`evalsuite.quantization.grids.ranges.RangeOptions`.
    """

    stochastic: ClassVar[bool] = True

    iterations: int = 20_000
    batch_size: int = 32
    learning_rate: float | None = None
    regulariser: float = 0.01
    warmup: float = 0.2
    b_start: float = 20.0
    b_end: float = 2.0
    cache_gigabytes: float = cost_only(2.0, gigabytes=True)
    precision: Literal["float32", "bfloat16"] = "float32"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.iterations < 1 or self.batch_size < 1:
            raise RequestError(
                f"iterations = {self.iterations}, batch_size = {self.batch_size}: expected at least 1 of each"
            )
        if self.learning_rate is not None and self.learning_rate <= 0:
            raise RequestError(f"learning_rate = {self.learning_rate}: expected above 0")
        if not 0 <= self.warmup < 1:
            raise RequestError(f"warmup = {self.warmup}: expected a fraction of the iterations, 0 to below 1")

    @property
    def rounding_rate(self) -> float:
        """The learning rate of rounding."""
        return scaled_rate(1e-3, 20_000, self.iterations) if self.learning_rate is None else self.learning_rate

    def annealed(self, progress: float) -> float | None:
        """Return the regulariser's exponent at a point of the iterations, 0..1; None during warm-up."""
        progress = (progress - self.warmup) / (1 - self.warmup)
        if progress < 0:
            return None
        return self.b_end + (self.b_start - self.b_end) * (1 + math.cos(progress * math.pi)) / 2


@dataclass(frozen=True)
class Pass:
    """One pass through a network's units.

    Attributes
    ----------
    iterations : of each unit.
    rounding : whether weights are learnt.
    step_rate : learning rate of activation scales, falling to 0 along half a cosine; None does not learn them.
    choose_ranges : chooses each unit's activation ranges, given the unit, what reaches it with images first, which it
        takes so meanwhile, and its name, when its turn comes; None leaves them.
    drop : the probability by which an element of an activation, or of what reaches the unit, is not quantized.
    losses : further ones beside the reconstruction error.
    error_weights : of the squared errors.
    correction : replaces what enters a unit in full precision, and its targets.
    """

    iterations: int
    rounding: bool = True
    step_rate: float | None = None
    choose_ranges: Callable[[nn.Module, Tensor, str], None] | None = None
    drop: float = 0.0
    losses: tuple[Loss, ...] = ()
    error_weights: Callable[[Situation], Kept | None] | None = None
    correction: Callable[[nn.Module, nn.Module, Unit, Kept, Scratch], tuple[Kept, Kept] | None] | None = None


def choose_unit_ranges(options: RangeOptions, count: int) -> Callable[[nn.Module, Tensor, str], None]:
    """Return what chooses a unit's activation ranges from the first ``count`` images that reach it."""

    def choose(module: nn.Module, inputs: Tensor, name: str) -> None:
        estimator = options.activation_estimator()
        set_activation_ranges(module, inputs[:count], estimator, bins=options.bins, within=name)

    return choose
