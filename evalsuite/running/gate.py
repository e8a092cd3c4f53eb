"""The sanity gate: before a study is run, eight bits must cost a network next to nothing on clean images.

A network that W8A8 harms is broken in a way that no comparison of methods at fewer bits should be built on: a
wrong normalisation, a layer whose activations hold extreme outliers, an operation quantized that should not be.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from evalsuite.bits import BitPolicy
from evalsuite.checksums import warn_of
from evalsuite.errors import QuantizationWarning, Refused, RequestError, own_warnings
from evalsuite.hashing import digest
from evalsuite.plugins import IntArray, TaskData
from evalsuite.quantization.grids.layers import QuantLayer, QuantMatMul
from evalsuite.quantization.layer_report import layer_report, signal_to_noise
from evalsuite.quantizers.rtn import RoundToNearest
from evalsuite.randomness import numpy_generator, torch_generator
from evalsuite.registry import Setting
from evalsuite.running.task_data import example, normalise, source_images, task_data, task_model
from evalsuite.running.workspace import Workspace
from evalsuite.store import STUDY, read_study
from evalsuite.study.tables import Gate

CALIBRATION = 128
"""Images of the pool that the gate's network is calibrated on."""
_BATCH = 64
_REPORTED = 32  # images of the layers' table

Facts = dict[str, Any]


def check(
    tasks: Mapping[str, Setting],
    digests: Mapping[Setting, str],
    workspace: Workspace,
    gate: Gate,
    console: Console,
) -> dict[str, Facts]:
    """Return what the gate found of each task, by label; prints a table of layers before it refuses one.

    What ``study.json`` in the run's folder knows of the same images and weights is not measured again.

    Parameters
    ----------
    digests : of each task's images and weights.

    Returns
    -------
    dict
        Per task ``key`` (hash of what was measured), ``images``, ``full_precision_error``, ``w8a8_error`` (0..1) and
        ``guessing_error``, of whoever names the most frequent class for all of them; or ``key`` and ``refused``, the
        reason why the network cannot be quantized.

    Raises
    ------
    RequestError
        If W8A8 loses more than ``gate.points`` and more than one image.
    """
    known = _known(workspace)
    found: dict[str, Facts] = {}
    for label, task in tasks.items() if gate.points else ():
        key = digest([digests[task], gate.images])
        facts = known.get(label, {})
        found[label] = facts if facts.get("key") == key else {"key": key, **measure(task, workspace, gate.images)}
        lost = found[label].get("w8a8_error", 0.0) - found[label].get("full_precision_error", 0.0)
        if lost > max(gate.points / 100, 1 / found[label].get("images", 1)) + 1e-9:
            report = worst_first(task, workspace)
            console.print(_table(label, report))
            raise RequestError(_message(label, found[label], gate, report.iloc[0]))
    return found


def _known(workspace: Workspace) -> dict[str, Facts]:
    try:
        return dict(read_study(workspace.folder)["gate"])
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError, LookupError, TypeError, RuntimeError) as error:
        warn_of(workspace.folder / STUDY, error, "it is written anew, and the gate measures again")
        return {}


def measure(task: Setting, workspace: Workspace, images: int) -> Facts:
    """Return the errors of a task's network in full precision and at W8A8 on so many clean test images."""
    data = task_data(task, workspace.root)
    try:
        model, quantized = _networks(task, workspace, data)
    except Refused as refused:
        return {"refused": " ".join(str(refused).split())}
    count = min(images, len(data.test_labels))
    chosen = np.sort(numpy_generator(0, "gate").choice(len(data.test_labels), count, replace=False))
    return {
        "images": count,
        "full_precision_error": _error(model, data, chosen, workspace.device),
        "w8a8_error": _error(quantized, data, chosen, workspace.device),
        "guessing_error": 1 - int(np.unique(data.test_labels[chosen], return_counts=True)[1].max()) / count,
    }


def doubts(found: Mapping[str, Facts]) -> list[str]:
    """Say which networks are no better in full precision than a guess, whose study would be one of nothing."""
    return [
        f"In full precision the network of {label} errs on {facts['full_precision_error']:.1%} of {facts['images']} "
        f"clean test images; who names one class for all errs on {facts['guessing_error']:.1%}. Are its weights, mean, "
        "std and order of classes those it was trained with?"
        for label, facts in found.items()
        if 0 < facts.get("guessing_error", 0.0) <= facts.get("full_precision_error", 0.0)
    ]


@torch.no_grad()
def worst_first(task: Setting, workspace: Workspace) -> pd.DataFrame:
    """Return what quantizing each layer, and each product of activations, does to a task's network at W8A8.

    Returns
    -------
    DataFrame
        The columns of :func:`evalsuite.quantization.layer_report.layer_report`, empty for products, and
        ``logits_snr_db``: the signal-to-noise ratio of the logits where that layer alone is quantized. Lowest first.
    """
    data = task_data(task, workspace.root)
    model, quantized = _networks(task, workspace, data)
    images = _calibration(data)[:_REPORTED].to(workspace.device)
    with own_warnings(QuantizationWarning):
        plain = RoundToNearest().insert(model, BitPolicy(8, 8), images[:1])
    exact = plain(images)
    rows = []
    for name, module in plain.named_modules():
        if isinstance(module, (QuantLayer, QuantMatMul)):
            before = copy.deepcopy(module.state_dict())
            module.load_state_dict(quantized.get_submodule(name).state_dict())
            rows.append((name, signal_to_noise(exact, plain(images))))
            module.load_state_dict(before)
    alone = pd.DataFrame(rows, columns=["layer", "logits_snr_db"])
    report = alone.merge(layer_report(model, quantized, images), how="left", on="layer")
    return report.sort_values("logits_snr_db", ignore_index=True, kind="stable")


def _networks(task: Setting, workspace: Workspace, data: TaskData) -> tuple[nn.Module, nn.Module]:
    """Return a task's network and the same at W8A8 by rounding to nearest with ranges of least error."""
    model, plugin = task_model(task, workspace.root), RoundToNearest()
    with own_warnings(QuantizationWarning):  # the trials name them
        quantized = plugin.insert(model, BitPolicy(8, 8), example(data)).to(workspace.device).eval()
        plugin.calibrate(quantized, _calibration(data).to(workspace.device), torch_generator(0))
    return model.to(workspace.device), quantized


def _calibration(data: TaskData) -> Tensor:
    return source_images(data, CALIBRATION, 0)


@torch.no_grad()
def _error(model: nn.Module, data: TaskData, indices: IntArray, device: str) -> float:
    wrong = 0
    for start in range(0, len(indices), _BATCH):
        batch = indices[start : start + _BATCH]
        said = model(normalise(data.test_images[batch], data).to(device)).argmax(dim=1).cpu().numpy()
        wrong += int((said != data.test_labels[batch]).sum())
    return wrong / len(indices)


def _message(label: str, facts: Facts, gate: Gate, worst: pd.Series[Any]) -> str:
    before, after = facts["full_precision_error"], facts["w8a8_error"]
    return (
        f"{label}: {100 * after:.1f} % errors at W8A8, {100 * before:.1f} % in full precision on "
        f"{facts['images']} clean test images: expected at most {gate.points:g} points more ([gate] points; 0 for no "
        f"gate); the layer that loses most is {worst['layer']} (quantized alone, it leaves the logits "
        f"{worst['logits_snr_db']:.1f} dB of signal over noise)"
    )


def _table(label: str, report: pd.DataFrame) -> Table:
    columns = {
        "logits, that layer alone": "logits_snr_db",
        "its weight": "weight_snr_db",
        "its input": "activation_snr_db",
        "its output, all layers": "snr_db",
    }
    table = Table(title=f"{label} at W8A8: signal over noise, dB, worst first", title_justify="left")
    table.add_column("layer")
    for title in columns:
        table.add_column(title, justify="right")
    for row in report.to_dict("records"):
        table.add_row(row["layer"], *("" if math.isnan(row[c]) else f"{row[c]:.1f}" for c in columns.values()))
    return table
