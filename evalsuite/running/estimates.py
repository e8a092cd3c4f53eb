"""How long trials take, learnt from those that have ended: what work is cut and ordered by, and what a study will cost.

An estimate is never a part of a record: it decides when a trial is run and beside which others, not what it gives.
All of it is ours: seconds an image are means over trials of the same task, quantizer, bits and adapter, and where there
are none over the most alike; what nothing is known of is taken to cost its passes at the mean price of a pass.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from evalsuite.study.trials import Trial, passes_of

Kind = tuple[str, ...]


@dataclass(frozen=True)
class Measured:
    """What a trial has cost.

    Attributes
    ----------
    task, quantizer, bits, adapter : what it was, as the columns of ``trials.parquet`` say it.
    passes : image passes an image, a backward counted as two.
    images : that it showed.
    seconds : that they took.
    quantize_seconds : that its network took to quantize.
    peak_bytes : memory of its process.
    """

    task: str
    quantizer: str
    bits: str
    adapter: str
    passes: float
    images: int
    seconds: float
    quantize_seconds: float
    peak_bytes: int

    @classmethod
    def of(cls, kind: tuple[str, str, str, str], row: Mapping[str, Any]) -> Measured:
        """Read a row of a trial that is done."""
        forwards, backwards = (float(row.get(name) or 0.0) for name in ("forwards", "backwards"))
        passes = (forwards + 2 * backwards) / int(row["batches"])
        seconds, quantizing = (float(row.get(name) or 0.0) for name in ("adapt_seconds", "quantize_seconds"))
        return cls(*kind, passes, int(row["images"]), seconds, quantizing, int(row.get("peak_bytes") or 0))


class Estimates:
    """Seconds by kind of trial.

    Parameters
    ----------
    measured : trials that have ended.
    pass_seconds : what a pass of an image takes where no trial has ended; without one, times are in passes.
    """

    def __init__(self, measured: Iterable[Measured] = (), pass_seconds: float = 1.0) -> None:
        shown: dict[Kind, tuple[float, float]] = {}
        made: dict[Kind, tuple[float, float]] = {}
        passes = spent = 0.0
        self.count = 0
        for each in measured:
            self.count += 1
            passes, spent = passes + each.passes * each.images, spent + each.seconds
            for kind in _kinds(each.task, each.quantizer, each.bits, each.adapter):
                _add(shown, kind, each.images, each.seconds)
            for kind in _networks(each.task, each.quantizer, each.bits):
                _add(made, kind, 1, each.quantize_seconds)
        self.pass_seconds = spent / passes if passes and spent else pass_seconds
        self._shown = {kind: seconds / images for kind, (images, seconds) in shown.items() if images}
        self._made = {kind: seconds / count for kind, (count, seconds) in made.items()}

    def image_seconds(self, trial: Trial) -> float:
        """Return what an image of a trial's stream takes."""
        for kind in _kinds(*kind_of(trial)):
            if kind in self._shown:
                return self._shown[kind]
        return passes_of(trial.adapter) * self.pass_seconds

    def quantize_seconds(self, trial: Trial) -> float | None:
        """Return what a trial's network takes to quantize; None: nothing is known of its method."""
        if trial.quantizer.bits is None:
            return 0.0
        return next((self._made[kind] for kind in _networks(*kind_of(trial)[:3]) if kind in self._made), None)


def learnt(trials: Iterable[Trial], rows: Mapping[str, Mapping[str, Any]]) -> Estimates:
    """Return what the rows of trials that have ended, by identity, say of others."""
    ended = ((trial, rows[trial.identity]) for trial in trials if trial.identity in rows)
    done = ((trial, row) for trial, row in ended if row.get("status") == "done" and row.get("images"))
    return Estimates(Measured.of(kind_of(trial), row) for trial, row in done)


def kind_of(trial: Trial) -> tuple[str, str, str, str]:
    """Return a trial's task, quantizer, bits and adapter, as the columns of ``trials.parquet`` say them."""
    bits = trial.quantizer.bits
    return trial.task.name, trial.quantizer.method.name, str(bits) if bits else "FP32", trial.adapter.name


def _kinds(task: str, quantizer: str, bits: str, adapter: str) -> tuple[Kind, ...]:
    """Return the kinds that a trial is of, the narrowest first; each begins with another word, so that none collide."""
    return ("all", task, quantizer, bits, adapter), ("method", task, quantizer, adapter), ("task", task, adapter)


def _networks(task: str, quantizer: str, bits: str) -> tuple[Kind, ...]:
    return ("all", task, quantizer, bits), ("method", task, quantizer)


def _add(sums: dict[Kind, tuple[float, float]], kind: Kind, count: float, seconds: float) -> None:
    known = sums.get(kind, (0.0, 0.0))
    sums[kind] = (known[0] + count, known[1] + seconds)
