"""What a change of one last digit does to a trial: the part of its error that no other machine reproduces. Ours.

At low widths an activation near a rounding edge flips when a sum is taken in another order, and batch statistics carry
the flip to every image of the batch. Jitter scales every weight of the normalisation layers by 1 + 1e-7 or 1 - 1e-7, by
a coin, and shows the stream again; what changes is the size of that effect on this network, adapter and stream.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from torch import nn

from evalsuite import store
from evalsuite.errors import AdaptationWarning, Refused, own_warnings
from evalsuite.isolation import Failure
from evalsuite.randomness import torch_generator
from evalsuite.running.domain_images import StreamImages
from evalsuite.running.estimates import Estimates
from evalsuite.running.evaluation import Evaluator, FixedModel, run_adapting
from evalsuite.running.pools import Pool
from evalsuite.running.run_log import RunLog, Stage
from evalsuite.running.stages import monitor_of, stage
from evalsuite.running.units import Schedule, unit
from evalsuite.running.workspace import Workspace
from evalsuite.structure import NORM_LAYERS
from evalsuite.study.trials import Trial, adapts, plan_stream

SCALE = 1e-7
"""By which fraction a weight is scaled: about one unit in the last place of float32."""


@torch.no_grad()
def jittered(model: nn.Module, generator: torch.Generator) -> nn.Module:
    """Return a copy of a network whose normalisation layers' weights are scaled by 1 +- 1e-7, the sign by a coin.

    Raises
    ------
    Refused
        If it has no normalisation layer with weights.
    """
    changed = copy.deepcopy(model)
    weights = [module.weight for module in changed.modules() if isinstance(module, NORM_LAYERS)]
    affine = [weight for weight in weights if weight is not None]
    if not affine:
        raise Refused(f"jitter scales normalisation layers' weights: {type(model).__name__} has none")
    for weight in affine:
        coins = torch.randint(0, 2, weight.shape, generator=generator).to(weight) * 2 - 1
        weight.copy_(weight * (1 + SCALE * coins))
    return changed


def repeat(trial: Trial, workspace: Workspace, kept: dict[str, Any], *, repetitions: int) -> None:
    """Show a trial's stream to jittered copies of its network and write what they predicted.

    ``kept``: what a process keeps; a trial of the same :func:`evalsuite.running.units.unit` finds its network
    there.

    Raises
    ------
    Refused
        If the network has no normalisation layer with weights, or the adapter declines the copy.
    """
    if kept.get("jittered unit") != unit(trial):
        kept.clear()
        kept.update({"evaluator": Evaluator(trial, workspace), "jittered unit": unit(trial)})
    evaluator = kept["evaluator"]
    stream = plan_stream(trial, evaluator.data.test_labels)
    images = StreamImages(trial, stream, workspace)
    predicted: list[NDArray[np.int32]] = []
    for repetition in range(repetitions):
        generator = torch_generator(trial.seed, "jitter", trial.quantization, repetition)
        model = jittered(evaluator.quantized.module, generator)
        with own_warnings(AdaptationWarning):
            if adapts(trial.adapter):
                predictions, *_ = run_adapting(trial, model, stream, images, workspace, evaluator.data)
            else:
                predictions, *_ = FixedModel(trial, model, workspace, evaluator.data).run(stream, images)
        predicted.append(predictions.prediction)
    store.write_jitter(workspace.folder, trial.identity, np.stack(predicted))


def measure(
    done: Sequence[Trial],
    repetitions: int,
    workspace: Workspace,
    pool: Pool,
    console: Console,
    log: RunLog,
) -> list[tuple[Trial, Failure]]:
    """Measure the jitter of the quantized trials that have none of so many repetitions; return those that cannot be."""
    known = store.jitter_repetitions(workspace.folder)
    left = [trial for trial in done if trial.quantizer.bits is not None and known.get(trial.identity) != repetitions]
    if not left:
        return []
    groups = Schedule(pool.count, Estimates(), {}).groups(left)
    work = partial(repeat, repetitions=repetitions)
    with pool, monitor_of(console, log) as monitor:
        ended = list(stage(Stage.JITTER, work, groups, pool, monitor))
    return [(trial, failure) for trial, failure in ended if failure is not None]
