"""Evaluating networks that do not adapt by compiled code, where the images still to come repay the compilation.

What a batch takes is measured in the process, plain and compiled, as is a compilation; before there is one, what it
costs and saves is assumed (ours). Networks of one structure share compiled code, each filled in with its own state, and
each is checked: its first compiled batch is passed through the plain network too, which is the one that is believed.
"""

from __future__ import annotations

import time
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from evalsuite import store
from evalsuite.compilation import CompiledNetwork, OtherStructure, missing_compiler
from evalsuite.errors import EvaluationWarning, RequestError
from evalsuite.hashing import canonical_json
from evalsuite.isolation import reason_of
from evalsuite.optional_members import SIMULATED, engine_of
from evalsuite.running.units import Shows, unit
from evalsuite.running.workspace import Workspace
from evalsuite.study.trials import Trial, adapts

if TYPE_CHECKING:
    from evalsuite.running.plan import Plan

COMPILE_SECONDS = 60.0
"""What a compilation is taken to cost before one was measured; ours, of ResNet-20 and a ViT on one core."""
SAVING = 0.4
"""Which share of a pass it is taken to save before that was measured; ours."""
LEAST_SAVING = 0.05
"""Below which compiled code is not used; ours."""
PASSES = 3
"""Plain batches that are timed before a compilation is thought of, the first of which does not count; ours."""
DIFFERENT = 0.01
"""Of the images of a network's first compiled batch that may be classified otherwise; beyond, it stays plain; ours."""

COMPILE = "compile"
"""What ``study.json`` calls it that networks may be compiled; absent where they may not."""
NOTE = (
    "Networks that do not adapt were evaluated by compiled code where that pays (column compiled_images): it rounds "
    "some last digits otherwise, so that some predictions may differ from those of a run without --compile."
)

Planned = Mapping[tuple[str, int], float]
"""Images of whole batches that a process is to pass, by :func:`kind_of` their networks and batch size."""


def kind_of(trial: Trial) -> str:
    """Return what networks share that are nearly always of one structure: the task and the bits."""
    bits = trial.quantizer.bits
    return canonical_json([trial.task.as_dict(), bits.as_dict() if bits else None])


def compilable(trial: Trial) -> bool:
    """Whether a trial's network is evaluated as it is, by torch: it does not adapt, and no engine runs it."""
    computed_here = not trial.quantizer.exported and engine_of(trial.quantizer.method.build()) == SIMULATED
    return computed_here and not adapts(trial.adapter)


def to_come(trials: Sequence[Trial], shows: Shows, processes: int) -> Planned:
    """Return what each of so many processes is to pass of trials that are yet to be done, an equal share.

    Images that trials of one network share pass once.
    """
    shown: dict[tuple[str, tuple[str, ...], int], dict[str, int]] = {}
    for trial in trials:
        known = shows.get((trial.task, trial.stream, trial.seed))
        if known is not None and known.batch and compilable(trial):
            shown.setdefault((kind_of(trial), unit(trial), known.batch), {}).update(known.images)
    found: Counter[tuple[str, int]] = Counter()
    for (kind, _, batch), images in shown.items():
        found[kind, batch] += sum(count // batch * batch for count in images.values())
    return {key: count / processes for key, count in found.items()}


def asked_for(plan: Plan, workspace: Workspace, compile: bool) -> Plan:
    """Return a plan that says whether networks may be compiled.

    Raises
    ------
    RequestError
        If there is no compiler, or if what an earlier call has finished was evaluated the other way.
    """
    if compile and (missing := missing_compiler(workspace.device)):
        raise RequestError(f"--compile needs {missing}, which is not installed: expected one, or --no-compile")
    earlier = _earlier(workspace.folder, compile) if plan.reused else compile
    if plan.missing and earlier != compile:
        begun, other = ("--compile", "--no-compile") if earlier else ("--no-compile", "--compile")
        raise RequestError(
            f"{workspace.folder} was begun with {begun}: expected the same, not {other}, or another --out, "
            "for compiled code may predict otherwise"
        )
    if not earlier:
        return plan
    return replace(plan, facts={**plan.facts, COMPILE: True, "notes": [*plan.facts["notes"], NOTE]})


def _earlier(folder: Path, asked: bool) -> bool:
    with suppress(OSError, ValueError):  # a damaged file says nothing, and is made again
        return bool(store.read_study(folder).get(COMPILE))
    return asked


@dataclass(eq=False)
class Compilations:
    """What a process keeps of compiled code: code by kind of network and batch size, and what was measured."""

    planned: Planned
    known: dict[tuple[str, int], list[CompiledNetwork]] = field(default_factory=dict)
    passed: Counter[tuple[str, int]] = field(default_factory=Counter)
    plain: dict[tuple[str, int], list[float]] = field(default_factory=dict)
    given_up: set[tuple[str, int]] = field(default_factory=set)
    costs: list[float] = field(default_factory=list)
    savings: list[float] = field(default_factory=list)

    def repays(self, kind: str, batch: int) -> bool:
        """Whether a compilation is expected to save more seconds on the images to come than it costs."""
        key = kind, batch
        seconds = self.plain.get(key, [])
        if key in self.given_up or len(seconds) < PASSES:
            return False
        batches = (self.planned.get(key, 0.0) - self.passed[key]) / batch
        saving = median(self.savings) if self.savings else SAVING
        cost = median(self.costs) if self.costs else COMPILE_SECONDS
        return batches * median(seconds[1:]) * saving > cost

    def filled(self, kind: str, batch: int, network: nn.Module) -> CompiledNetwork | None:
        """Return compiled code that now computes what a network does, if there is some of its structure."""
        for compiled in self.known.get((kind, batch), []):
            try:
                compiled.fill(network)
                return compiled
            except OtherStructure:
                continue
        return None

    def compile(self, kind: str, images: Tensor, network: nn.Module) -> CompiledNetwork | None:
        """Compile a network for batches like this, unless that saves nothing or cannot be done; say so then."""
        key, start = (kind, len(images)), time.perf_counter()
        try:
            compiled = CompiledNetwork(network)
            compiled(images)
            self.costs.append(_clock(images) - start)
            start = _clock(images)
            compiled(images)
        except Exception as error:  # whatever torch's compiler, or a C++ compiler, makes of a network
            self.give_up(key, reason_of(error))
            return None
        saving = 1 - (_clock(images) - start) / median(self.plain[key][1:])
        if saving < LEAST_SAVING:
            self.give_up(key, f"it takes {1 - saving:.0%} of the time of the plain network")
            return None
        self.savings.append(saving)
        self.known.setdefault(key, []).append(compiled)
        return compiled

    def give_up(self, key: tuple[str, int], reason: str) -> None:
        """Compile no network of a kind any more."""
        self.given_up.add(key)
        line = f"networks are evaluated plain, in batches of {key[1]}: compiled, {reason.partition(chr(10))[0]}"
        warnings.warn(line, EvaluationWarning, stacklevel=2)


class Choice:
    """How one network is evaluated: by compiled code, where there is some that fits or that repays.

    Copies are the choice itself: an adapted model is a copy of the network it was given.
    """

    def __init__(self, compilations: Compilations, kind: str, network: nn.Module) -> None:
        self._compilations, self._kind, self._network = compilations, kind, network
        self._chosen: dict[int, CompiledNetwork] = {}
        self._checked: set[int] = set()
        self._plain: set[int] = set()
        self._last: dict[int, Tensor] = {}
        self.images = 0
        """How many were predicted by compiled code."""

    def __deepcopy__(self, memo: dict[int, Any]) -> Choice:
        return self

    def settle(self, batch: int) -> None:
        """Decide how whole batches of a size are passed from here on; compiles where that repays."""
        if batch in self._chosen or batch in self._plain:
            return
        ours, kind = self._compilations, self._kind
        compiled = ours.filled(kind, batch, self._network)
        if compiled is None and batch in self._last and ours.repays(kind, batch):
            compiled = ours.compile(kind, self._last[batch], self._network)
        if compiled is not None:
            self._chosen[batch] = compiled
            self._last.pop(batch, None)

    def run(self, network: nn.Module, images: Tensor) -> Tensor:
        """Return the (N, classes) logits of (N, C, H, W) images by a copy of the network, or by what stands for it."""
        key = self._kind, len(images)
        self._compilations.passed[key] += len(images)
        compiled = self._chosen.get(len(images))
        if compiled is None:
            return self._timed(network, images)
        if len(images) not in self._checked:
            self._checked.add(len(images))
            return self._compared(compiled, network, images)
        self.images += len(images)
        return compiled(images)

    def _timed(self, network: nn.Module, images: Tensor) -> Tensor:
        key, start = (self._kind, len(images)), _clock(images)
        logits: Tensor = network(images)
        if key in self._compilations.planned:
            self._compilations.plain.setdefault(key, []).append(_clock(images) - start)
            self._last[len(images)] = images
        return logits

    def _compared(self, compiled: CompiledNetwork, network: nn.Module, images: Tensor) -> Tensor:
        logits: Tensor = network(images)
        other = compiled(images)
        share = float((logits.argmax(1) != other.argmax(1)).float().mean())
        if share > DIFFERENT:
            del self._chosen[len(images)]
            self._plain.add(len(images))
            line = f"a network is evaluated plain: compiled, it classifies {share:.1%} of a batch otherwise"
            warnings.warn(line, EvaluationWarning, stacklevel=2)
        return logits


class Evaluated(nn.Module):
    """A network as a choice has it computed."""

    def __init__(self, network: nn.Module, choice: Choice) -> None:
        super().__init__()
        self.network, self.choice = network, choice

    def forward(self, images: Tensor) -> Tensor:
        """Return the (N, classes) logits of (N, C, H, W) images."""
        return self.choice.run(self.network, images)


def _clock(images: Tensor) -> float:
    if images.device.type == "cuda":
        torch.cuda.synchronize(images.device)
    return time.perf_counter()
