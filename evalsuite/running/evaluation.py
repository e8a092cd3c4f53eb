"""Running trials: a quantized model and an adapter over streams, giving a row per trial and a record per image."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from evalsuite import store
from evalsuite.adaptation.adapted_model import AdaptedModel
from evalsuite.adaptation.collapse import CollapseWatch, first_collapse
from evalsuite.adaptation.pace import Pace, paced
from evalsuite.corruptions import family
from evalsuite.environment import peak_memory
from evalsuite.errors import AdaptationWarning, RequestError, own_warnings
from evalsuite.hashing import canonical_json
from evalsuite.optional_members import engine_of
from evalsuite.plugins import IntArray, TaskData
from evalsuite.randomness import torch_generator
from evalsuite.running.ahead import ahead, depth_for
from evalsuite.running.compiled import Choice, Compilations, Evaluated, Planned, compilable, kind_of
from evalsuite.running.domain_images import OpenImages, StreamImages
from evalsuite.running.exported_graphs import on_engine
from evalsuite.running.memory_budget import with_fewer
from evalsuite.running.quantized_models import load_quantized
from evalsuite.running.task_data import example, normalise, source_images, task_data
from evalsuite.running.units import unit
from evalsuite.running.workspace import Workspace
from evalsuite.streams import Batch, Stream
from evalsuite.study.trials import Trial, adapts, is_oracle, plan_stream


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a network said of T images.

    Attributes
    ----------
    prediction : (T,) class index.
    confidence : (T,) softmax probability of the predicted class.
    loss : (T,) negative log-likelihood of the label.
    brier : (T,) squared distance of the probabilities from the label's unit vector, 0..2.
    """

    prediction: NDArray[np.int32]
    confidence: NDArray[np.float32]
    loss: NDArray[np.float32]
    brier: NDArray[np.float32]


@dataclass(frozen=True)
class Costs:
    """What a stream cost; passes are counted in batches."""

    forwards: float
    backwards: float
    adapt_seconds: float
    forward_seconds: float
    adapted_parameters: int
    state_bytes: int
    adapter_facts: str = "{}"
    """JSON of what the adapter says of itself (updates skipped, domain changes seen...) and which modules it moved."""
    compiled_images: float | None = None
    """How many images compiled code predicted; None: it was not asked for."""


_COLUMNS = tuple(field.name for field in fields(Predictions))

PART = 2**14
"""Images whose records are made and written together, so that a long stream takes no more memory than a short one."""


def predictions(logits: Tensor, labels: NDArray[np.int64]) -> Predictions:
    """Read (T, classes) logits against (T,) labels. Raises RequestError where a label has no logit."""
    if len(labels) and labels.max() >= logits.shape[1]:
        raise RequestError(f"logits of {logits.shape[1]} classes; expected at least {labels.max() + 1}, as labels go")
    logs = torch.log_softmax(logits.detach().float().cpu(), dim=1)
    best, prediction = logs.max(dim=1)
    loss = -logs.gather(1, torch.from_numpy(labels).view(-1, 1)).squeeze(1)
    brier = logs.exp().square().sum(dim=1) - 2 * torch.exp(-loss) + 1
    return Predictions(prediction.numpy().astype(np.int32), best.exp().numpy(), loss.numpy(), brier.numpy())


def _unfilled(size: int) -> Predictions:
    # Written to at once: what memory a long stream takes is taken, or refused, before it begins.
    return Predictions(np.full(size, -1, np.int32), *(np.full(size, np.nan, np.float32) for _ in _COLUMNS[1:]))


def _fill(predicted: Predictions, where: Any, part: Predictions, rows: Any = slice(None)) -> None:
    for name in _COLUMNS:
        getattr(predicted, name)[where] = getattr(part, name)[rows]


def run_adapting(
    trial: Trial, model: nn.Module, stream: Stream, images: StreamImages, workspace: Workspace, data: TaskData
) -> tuple[Predictions, Costs, NDArray[np.bool_]]:
    """Run an adapter over a stream, batch by batch, reset where the stream says so.

    Returns, beside predictions and costs, (B,) whether it was reset before each batch.
    """
    source = source_images(data, trial.source_images, trial.seed).to(workspace.device)
    generator = torch_generator(trial.seed, "adapt", trial.identity)
    may_reset = stream.reset_on_collapse or bool(stream.resets[1:].any())
    adapted = AdaptedModel.from_setting(trial.adapter, model, source, generator, resets=may_reset)
    predicted = _unfilled(len(stream))
    watch, fallen, resets = CollapseWatch(), False, []
    pace, oracle = Pace() if stream.constant_speed else None, is_oracle(trial.adapter)
    shown = ahead(lambda batch: _shown(batch, images, data), stream.batches(), depth_for(workspace.device))
    with closing(shown):
        for batch, inputs in shown:
            resets.append(batch.start > 0 and (batch.reset or fallen))
            if resets[-1]:
                adapted.reset()
            labels = data.test_labels[batch.image]
            told = torch.from_numpy(labels) if oracle else None  # to nobody else
            part = predictions(paced(adapted, inputs.to(workspace.device), pace, told), labels)
            _fill(predicted, slice(batch.start, batch.start + len(batch.image)), part)
            fallen = stream.reset_on_collapse and watch.collapsed(part.prediction)
    totals = adapted.totals
    costs = Costs(
        forwards=totals["forwards"],
        backwards=totals["backwards"],
        adapt_seconds=totals["seconds"],
        forward_seconds=totals["forward_seconds"],
        adapted_parameters=int(totals["adapted_parameters"]),
        state_bytes=int(totals["state_bytes"]),
        adapter_facts=canonical_json(adapted.facts | {"adapted_modules": adapted.adapted_modules}),
    )
    return predicted, costs, np.array(resets)


def _shown(batch: Batch, images: StreamImages, data: TaskData) -> tuple[Batch, Tensor]:
    return batch, normalise(images.fetch(batch.image, batch.domain), data)


@dataclass(frozen=True, eq=False)
class _Known:
    """What a network said of a domain's images, the seconds that took, those of its own passes, images by code."""

    predicted: Predictions
    seconds: float
    passing: float
    compiled: int


class FixedModel:
    """A network that does not adapt: each domain's images pass through it once, whatever the stream's order.

    ``choice``: by what it is evaluated; None: by itself.
    """

    def __init__(
        self, trial: Trial, model: nn.Module, workspace: Workspace, data: TaskData, choice: Choice | None = None
    ) -> None:
        self.workspace, self.data, self.choice = workspace, data, choice
        model = model if choice is None else Evaluated(model, choice)
        source = source_images(data, 1, trial.seed).to(workspace.device)
        generator = torch_generator(trial.seed)
        self.adapted = AdaptedModel.from_setting(trial.adapter, model, source, generator, resets=False)
        self.known: dict[tuple[str, int], _Known] = {}
        self.at_once: int | None = None

    def run(self, stream: Stream, images: StreamImages) -> tuple[Predictions, Costs, NDArray[np.bool_]]:
        """Look the stream's predictions up, computing what is not known yet; its resets are those it plans."""
        batch_size = stream.largest_batch
        predicted, seconds, passing, compiled = _unfilled(len(stream)), 0.0, 0.0, 0.0
        for number, (shown, opened) in enumerate(zip(images.shown, images.images, strict=True)):
            indices, key = shown.indices, (shown.key, batch_size)
            if not len(indices):  # a domain that a stream names and does not show
                continue
            if key not in self.known:
                self.known[key] = self._evaluate(opened, indices, batch_size)
            known = self.known[key]
            here = np.flatnonzero(stream.domain == number)
            _fill(predicted, here, known.predicted, np.searchsorted(indices, stream.image[here]))
            share = len(here) / len(indices)
            seconds, passing = seconds + known.seconds * share, passing + known.passing * share
            compiled += known.compiled * share
        # One pass an image, whichever stream it was first computed for.
        by_code = None if self.choice is None else compiled
        costs = Costs(float(len(stream.starts)), 0.0, seconds, passing, 0, 0, compiled_images=by_code)
        return predicted, costs, stream.resets & (stream.starts > 0)

    def _evaluate(self, images: OpenImages, indices: IntArray, batch_size: int) -> _Known:
        """Return what it says of images, and what that took."""
        if self.choice is not None:
            self.choice.settle(batch_size)  # by itself, for its seconds are no image's
        by_code = 0 if self.choice is None else self.choice.images
        predicted, before = _unfilled(len(indices)), self.adapted.spent.forward_seconds
        start = time.perf_counter()
        starts, depth = range(0, len(indices), batch_size), depth_for(self.workspace.device)
        chosen = [indices[first : first + batch_size] for first in starts]
        shown = ahead(lambda these: normalise(images.fetch(these), self.data), chosen, depth)
        with closing(shown):
            for first, these, inputs in zip(starts, chosen, shown, strict=True):
                _fill(predicted, slice(first, first + batch_size), self._passed(inputs, self.data.test_labels[these]))
        seconds, passing = time.perf_counter() - start, self.adapted.spent.forward_seconds - before
        return _Known(predicted, seconds, passing, (self.choice.images if self.choice is not None else 0) - by_code)

    def _passed(self, inputs: Tensor, labels: IntArray) -> Predictions:
        """Pass a batch through the network, in parts where the run's memory budget has room for fewer images only."""

        def parts(size: int) -> Predictions:
            found = _unfilled(len(inputs))
            for first in range(0, len(inputs), size):
                rows = slice(first, first + size)
                logits = self.adapted(inputs[rows].to(self.workspace.device))
                _fill(found, rows, predictions(logits, labels[rows]))
            return found

        if self.workspace.memory is None:
            return predictions(self.adapted(inputs.to(self.workspace.device)), labels)
        size = min(self.at_once or len(inputs), len(inputs))
        found, fitting = with_fewer(parts, size)
        if fitting < size:
            self.at_once = fitting
        return found


def records(
    stream: Stream, predicted: Predictions, resets: NDArray[np.bool_], data: TaskData, size: int = PART
) -> Iterator[dict[str, Any]]:
    """Yield the columns of a trial's records, in stream order and in parts of ``size`` images.

    (B,) ``resets``: before which batches there was one.
    """
    names = [domain.name for domain in stream.domains]
    families = [family(name) for name in names]
    severities = np.array([domain.severity for domain in stream.domains], dtype=np.int8)
    rounds = stream.rounds()
    for start in range(0, len(stream), size):
        part = slice(start, start + size)
        image, domain = stream.image[part], stream.domain[part]
        position = np.arange(start, start + len(image), dtype=np.int32)
        batch = stream.batch_of(position)
        yield {
            "image": image,
            "position": position,
            "domain": _encoded(names, domain),
            "family": _encoded(families, domain),
            "severity": severities[domain],
            "label": data.test_labels[image].astype(np.int32),
            **{name: getattr(predicted, name)[part] for name in _COLUMNS},
            "batch": batch,
            "reset": resets[batch],
            "round": rounds[part],
            **{name: values[image] for name, values in data.groups.items()},
        }


def _encoded(names: Sequence[str], codes: NDArray[np.int16]) -> pa.DictionaryArray:
    unique, inverse = np.unique(names, return_inverse=True)
    return pa.DictionaryArray.from_arrays(pa.array(inverse[codes].astype(np.int32)), pa.array(unique.tolist()))


class Evaluator:
    """Runs the trials of one (quantized model, adapter); ``compilations``: what the process may evaluate them by."""

    def __init__(self, trial: Trial, workspace: Workspace, compilations: Compilations | None = None) -> None:
        self.workspace = workspace
        self.data = task_data(trial.task, workspace.root)
        self.quantized = on_engine(load_quantized(trial, workspace), trial, workspace, example(self.data))
        model, choice = self.quantized.module, None
        if compilations is not None and compilable(trial):
            choice = Choice(compilations, kind_of(trial), model)
        self.fixed = None if adapts(trial.adapter) else FixedModel(trial, model, workspace, self.data, choice)

    def run(self, trial: Trial) -> tuple[dict[str, Any], Iterator[dict[str, Any]]]:
        """Return the result columns of a trial, and its records in parts. Raises whatever its plugins raise."""
        stream = plan_stream(trial, self.data.test_labels)
        images = StreamImages(trial, stream, self.workspace)
        with own_warnings(AdaptationWarning) as caught:
            if self.fixed is not None:
                predicted, costs, resets = self.fixed.run(stream, images)
            else:
                model = self.quantized.module
                predicted, costs, resets = run_adapting(trial, model, stream, images, self.workspace, self.data)
        labels = self.data.test_labels.astype(np.int32)[stream.image]
        columns: dict[str, Any] = {
            "status": "done",
            "reason": "",
            "reason_code": "",
            "error": float(np.mean(predicted.prediction != labels)),
            "images": len(stream),
            "batches": len(stream.starts),
            **{name: value for name, value in vars(costs).items() if value is not None},
            "quantize_seconds": self.quantized.seconds,
            "peak_bytes": peak_memory(),
            "engine": trial.quantizer.engine if trial.quantizer.exported else engine_of(trial.quantizer.method.build()),
            "stream_digest": stream.digest(),
            "warnings": canonical_json([*self.quantized.warnings, *caught]),
            "collapsed_at": first_collapse(predicted.prediction, labels),
        }
        return columns | dict(self.quantized.measured), records(stream, predicted, resets, self.data)


def run_trial(trial: Trial, workspace: Workspace, kept: dict[str, Any], *, planned: Planned | None = None) -> None:
    """Run a trial and write its record. Raises whatever its plugins raise.

    Parameters
    ----------
    kept : what a process keeps; a trial of the same :func:`evalsuite.running.units.unit` as the last one finds its
        evaluator there, any trial compiled code.
    planned : what the process is to pass, where compiled code may do that; None: it may not.
    """
    if kept.get("unit") != unit(trial):
        compilations = kept.get("compilations")
        if planned is not None and compilations is None:
            compilations = Compilations(planned)
        kept.clear()
        kept.update(compilations=compilations, evaluator=Evaluator(trial, workspace, compilations), unit=unit(trial))
    columns, rows = kept["evaluator"].run(trial)
    store.write_trial(workspace.folder, {"trial": trial.identity, **columns}, rows)
