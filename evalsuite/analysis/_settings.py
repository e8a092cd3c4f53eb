"""What all tables of an analysis share: the study's draws, the baselines, intervals of means."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evalsuite.analysis.claims import CONFIDENCE
from evalsuite.analysis.outcomes import Int8Array, Outcome, Outcomes, Rows, pooled
from evalsuite.errors import RequestError
from evalsuite.groups import chosen_groups, parts
from evalsuite.randomness import numpy_generator
from evalsuite.statistics import Interval, mean_bounds, paired_bootstrap, two_way_bootstrap
from evalsuite.store import Run

Values = dict[str, Any]


@dataclass(frozen=True)
class Settings:
    """The study's ``analysis``."""

    seed: int
    permutations: int
    bootstrap: int
    groups: tuple[str, ...] = ()
    """Groupings that the study asks for; without any, all that its tasks have."""

    @classmethod
    def of(cls, run: Run) -> Settings:
        """Read them from a run's ``study.json``. Raises RequestError where it does not hold them."""
        given = run.study["analysis"]
        try:
            numbers = {name: int(given[name]) for name in ("seed", "permutations", "bootstrap")}
            return cls(**numbers, groups=tuple(map(str, given.get("groups", ()))))
        except (KeyError, TypeError, ValueError) as error:
            raise RequestError(
                f"{run.folder / 'study.json'}, analysis = {given!r}: expected whole numbers seed, permutations, "
                "bootstrap; run again to write it anew"
            ) from error

    def generator(self, *purpose: str) -> np.random.Generator:
        """Return the generator of one purpose."""
        return numpy_generator(self.seed, *purpose)

    def groups_of(self, outcomes: Outcomes) -> tuple[str, ...]:
        """Return the groupings that a run's tables are about, class and domain first."""
        # What was asked for was checked before the run; the task that has it may have no trial that is done.
        asked = [[column for group in self.groups for column in parts(group)]]
        return chosen_groups(self.groups, asked if self.groups else list(outcomes.columns.values()))

    def interval(
        self,
        values: NDArray[Any],
        rows: Rows,
        generator: np.random.Generator,
        inside: NDArray[np.int64] | None = None,
        level: float = CONFIDENCE,
        signed: bool = True,
    ) -> Interval:
        """Return the means of (N, M) values, or of the rows ``inside``, with their intervals.

        ``signed``: differences of errors, -1..1; else errors, 0..1.

        Test images are resampled and, where every image was shown in every one of several calibration draws, the
        draws as well. A bootstrap of few images or rare errors is too narrow: an end is never nearer than that of
        :func:`evalsuite.statistics.mean_bounds`; with two or three draws it is widened beyond all bounds: an end is
        never one that no mean can have.
        """
        image, replicate = rows.image, rows.replicate
        crossed = rows.crossed
        if inside is not None:
            values, image, replicate = values[inside], image[inside], replicate[inside]
            crossed = crossed and _crossed(image, replicate)  # a domain may show other images in each draw
        found = self.resampled(values, image, replicate, generator, crossed=crossed, level=level)
        least = mean_bounds(values, image, replicate, level=level, signed=signed)
        wider = replace(found, low=np.minimum(found.low, least.low), high=np.maximum(found.high, least.high))
        return wider.within(-1 if signed else 0, 1)

    def resampled(
        self,
        values: NDArray[Any],
        image: NDArray[Any],
        replicate: NDArray[Any],
        generator: np.random.Generator,
        *,
        crossed: bool,
        level: float = CONFIDENCE,
    ) -> Interval:
        """Return the means of (N, M) values with bootstrap intervals: over images, ``crossed`` with the draws or not.

        ``image``, ``replicate``: (N,) of each row. The values may be of any size.
        """
        if crossed and len(np.unique(image)) > 1:
            return two_way_bootstrap(values, image, replicate, generator, draws=self.bootstrap, level=level)
        return paired_bootstrap(values, image, generator, draws=self.bootstrap, level=level)


def _crossed(image: NDArray[Any], replicate: NDArray[Any]) -> bool:
    """Whether every image was shown in every one of several draws, of (N,) rows."""
    pairs = np.unique(np.column_stack([image, replicate]), axis=0)
    images, draws = (len(np.unique(column)) for column in pairs.T)
    return draws > 1 and len(pairs) == images * draws


def first_calibrations(run: Run) -> dict[tuple[str, str], str]:
    """By task and quantizer, the label of the calibration set that a study asks for first, whether or not it ended."""
    first = run.trials.drop_duplicates(["task", "quantizer_label"])
    keys = zip(first["task"], first["quantizer_label"], strict=True)
    return dict(zip(keys, first["calibration_label"], strict=True))


def baselines(run: Run) -> dict[str, tuple[str, str]]:
    """By task, the labels of its references' quantizer and adapter."""
    references = run.trials[run.trials["trial"] == run.trials["reference"]]
    labels = zip(references["task"], references["quantizer_label"], references["adapter_label"], strict=True)
    return {task: (quantizer, adapter) for task, quantizer, adapter in labels}


def differences(pairs: list[list[tuple[Outcome, Outcome]]]) -> Int8Array:
    """Stack a - b, seeds end to end, as columns."""
    return np.column_stack([pooled(a for a, _ in pair) - pooled(b for _, b in pair) for pair in pairs])
