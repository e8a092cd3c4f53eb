"""How long a study takes on this machine, how much room it needs and how much memory: a rough estimate, ours.

Two sources, never mixed. Rows of an earlier run, where there are some: what its trials took. Else each task's network
is shown random images for a moment; then quantizing, of which that says nothing, is left out.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from evalsuite.errors import NotHere, RequestError
from evalsuite.isolation import reason_of
from evalsuite.optional_members import availability_of
from evalsuite.registry import Setting
from evalsuite.running.estimates import Estimates, Measured
from evalsuite.study.cost import domains_of, length_in_images
from evalsuite.study.settings import Study
from evalsuite.study.trials import Trial, adapts, passes_of

if TYPE_CHECKING:
    from torch import nn

    from evalsuite.streams import Domain

MOMENT = 0.05
"""Seconds for which a network is timed; ours."""
BATCH = 16
SIMULATED_PASSES = 2.0
"""What a pass of a network costs whose quantization is simulated, in passes of the network itself; ours."""
PROCESS_BYTES = 650_000_000
"""What a process holds that evaluates, beside networks and their activations; ours, of ``quick``'s."""
DIAGNOSIS_PASSES = 3.0
"""What looking into a network costs an image, in passes of the network: two, and counting; ours, of ResNet-20's."""
RECORD_BYTES, FILE_BYTES = 22, 9_000
"""Of a row of records and of a file of them, as zstd leaves them; ours."""
_PASSES = ("batches", "forwards", "backwards")
_COLUMNS = ("task", "quantizer", "bits", "adapter", "status", "images", "adapt_seconds", "quantize_seconds", *_PASSES)


@dataclass(frozen=True)
class Forecast:
    """What a study takes on this machine.

    Attributes
    ----------
    hours : of one process with one thread, without what an earlier call did; None: unknown, and ``basis`` says why.
    quantizing : whether they include quantizing.
    disk_bytes : of the run's folder, at most.
    peak_bytes : memory of one process.
    basis : where the numbers come from, in words.
    """

    hours: float | None
    quantizing: bool
    disk_bytes: int | None
    peak_bytes: int | None
    basis: str


@dataclass(frozen=True)
class Network:
    """What a moment with a task's network has shown."""

    pass_seconds: float
    parameters: int
    image_bytes: int


def forecast(study: Study, trials: Sequence[Trial], root: str | None, run: Path) -> Forecast:
    """Estimate what a study takes from the rows of ``run``, if it is there and has some, else by a timing.

    Raises
    ------
    RequestError
        If a task refuses to build its network, as it would when the study is run; where it lacks what may be loaded
        from the network, or a data folder that was not named, nothing is known of the study's cost and no more.
    """
    networks: dict[Setting, Network] = {}
    for task in study.tasks:
        try:
            networks[task] = timed(task, root)
        except NotHere as error:
            return Forecast(None, False, None, None, f"the network of task {task.name!r} is not here: {error}")
        except (KeyboardInterrupt, RequestError):
            raise
        except BaseException as error:  # a plugin's fault, which the run will name
            reason = f"the network of task {task.name!r} cannot be had: {reason_of(error)}"
            return Forecast(None, False, None, None, reason)
    disk = _disk(study, trials, networks)
    known = rows_of(run)
    if known:
        estimates = Estimates(known)
        seconds = _seconds(trials, estimates.image_seconds, estimates.quantize_seconds)
        hours = (seconds + _diagnosing(study, trials, estimates.image_seconds)) / 3600
        quantizing = all(estimates.quantize_seconds(trial) is not None for trial in _models(trials))
        basis = f"from {len(known):,} trials of {run}"
        return Forecast(hours, quantizing, disk, max(each.peak_bytes for each in known), basis)

    def image_seconds(trial: Trial) -> float:
        simulated = 1.0 if trial.quantizer.bits is None else SIMULATED_PASSES
        return passes_of(trial.adapter) * simulated * networks[trial.task].pass_seconds

    hours = (_seconds(trials, image_seconds, lambda trial: None) + _diagnosing(study, trials, image_seconds)) / 3600
    peak = max(_peak_bytes(network.parameters) for network in networks.values())
    return Forecast(hours, False, disk, peak, "from timing each network for a moment, quantizing left out")


def peaks(tasks: Sequence[Setting], root: str | None) -> list[tuple[str, int]]:
    """Return what a process holds at least for each task's networks, in bytes; left out are those that fail here."""
    from evalsuite.running.process_state import restored

    found = []
    for task in tasks:
        with suppress(Exception):  # the run will name it
            with restored(0):
                model, _ = _built(task, root)
            found.append((task.name, _peak_bytes(_parameters(model))))
    return found


def _peak_bytes(parameters: int) -> int:
    return PROCESS_BYTES + 4 * 4 * parameters  # as deployed, as adapted, as it was before, and gradients


def timed(task: Setting, root: str | None) -> Network:
    """Build a task's network and show it random images for a moment, by one thread; nothing is downloaded for it.

    Threads that wait for one whose core another process holds would take a hundred times as long.
    """
    import torch

    from evalsuite.running.process_state import restored

    with restored(0), torch.no_grad():
        torch.set_num_threads(1)
        model, size = _built(task, root)
        images = torch.zeros(1, 3, size, size).uniform_(-1, 1)
        model(images)  # the first call is slower
        start = time.perf_counter()
        model(images)
        count = max(1, min(BATCH, int(MOMENT / max(time.perf_counter() - start, 1e-6))))
        images, taken, begun = images.expand(count, -1, -1, -1).contiguous(), list[float](), time.perf_counter()
        while len(taken) < 2 or time.perf_counter() - begun < MOMENT:
            start = time.perf_counter()
            model(images)
            taken.append(time.perf_counter() - start)
    # The least: what else the machine does now will not last.
    return Network(min(taken) / count, _parameters(model), 3 * size * size)


def _built(task: Setting, root: str | None) -> tuple[nn.Module, int]:
    """Return a task's network and the side of its images; nothing is downloaded for it."""
    from evalsuite.networks import plain

    plugin = task.build()
    found = availability_of(plugin)
    if found is not None:
        try:
            found(root)
        except RequestError as error:
            raise NotHere(str(error)) from error
    return plain(plugin.model(root)).eval(), int(plugin.image_size)


def _parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def rows_of(run: Path) -> list[Measured]:
    """Return what the trials of a run have cost that are done; none where there is no whole table of them."""
    file = run / "trials.parquet"
    if not file.is_file():
        return []
    import pyarrow as pa
    import pyarrow.parquet as pq

    from evalsuite.store import verified_trials

    try:
        table = pq.read_table(verified_trials(file), columns=[*_COLUMNS, "peak_bytes"])
    except (OSError, ValueError, LookupError, pa.ArrowException, RuntimeError):
        return []
    return [
        Measured.of((row["task"], row["quantizer"], row["bits"], row["adapter"]), row)
        for row in table.to_pylist()
        if row["status"] == "done" and row["images"]
    ]


def _models(trials: Sequence[Trial]) -> list[Trial]:
    return list({trial.quantization: trial for trial in trials}.values())


def _seconds(
    trials: Sequence[Trial], image_seconds: Callable[[Trial], float], quantize_seconds: Callable[[Trial], float | None]
) -> float:
    """Return seconds of one process: networks, streams that are adapted to, domains that fixed networks see once."""
    total = sum(quantize_seconds(trial) or 0.0 for trial in _models(trials))
    kinds: dict[tuple[Setting, object, Setting], float] = {}
    lengths: dict[Setting, int] = {}
    parts = {stream: domains_of(stream) for stream in {trial.stream for trial in trials}}
    fixed: dict[tuple[str, str], tuple[float, set[Setting]]] = {}
    for trial in trials:
        kind = (trial.task, trial.quantizer, trial.adapter)
        if kind not in kinds:
            kinds[kind] = image_seconds(trial)
        if adapts(trial.adapter):
            if trial.stream not in lengths:
                lengths[trial.stream] = length_in_images(trial.stream)
            total += kinds[kind] * lengths[trial.stream]
        else:
            fixed.setdefault(trial.network, (kinds[kind], set()))[1].add(trial.stream)
    once = Counter((rate, frozenset(streams)) for rate, streams in fixed.values())
    images = {streams: sum(n for _, n in {p for s in streams for p in parts[s]}) for _, streams in once}
    return total + sum(count * rate * images[streams] for (rate, streams), count in once.items())


def _diagnosing(study: Study, trials: Sequence[Trial], image_seconds: Callable[[Trial], float]) -> float:
    """Return seconds of looking into each quantized network once, on its calibration set and every domain it meets."""
    if not study.diagnosis.images:
        return 0.0
    parts = {stream: {domain for domain, _ in domains_of(stream)} for stream in {trial.stream for trial in trials}}
    models: dict[str, tuple[Trial, set[Domain]]] = {}
    for trial in sorted(trials, key=lambda trial: adapts(trial.adapter)):  # who only evaluates knows best what it takes
        if trial.quantizer.bits is not None:
            models.setdefault(trial.quantization, (trial, set()))[1].update(parts[trial.stream])
    one_pass = ((image_seconds(trial) / passes_of(trial.adapter), domains) for trial, domains in models.values())
    return DIAGNOSIS_PASSES * study.diagnosis.images * sum(rate * (len(domains) + 1) for rate, domains in one_pass)


def _disk(study: Study, trials: Sequence[Trial], networks: Mapping[Setting, Network]) -> int:
    """Return bytes of records, networks and corrupted images, as if every seed showed images of its own."""
    parts = {stream: domains_of(stream) for stream in {trial.stream for trial in trials}}
    lengths = {stream: length_in_images(stream) for stream in parts}
    records = sum(FILE_BYTES + RECORD_BYTES * lengths[trial.stream] for trial in trials)
    models = sum(4 * networks[trial.task].parameters for trial in _models(trials) if trial.quantizer.bits is not None)
    pixels = {
        (trial.task, trial.seed, domain): count * networks[trial.task].image_bytes
        for trial in {(t.task, t.stream, t.seed): t for t in trials}.values()
        for domain, count in parts[trial.stream]
        if domain.severity
    }
    return records + models + sum(pixels.values())
