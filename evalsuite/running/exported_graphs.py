"""Quantized networks as ONNX graphs: exported once, kept in the run's folder, put on an engine."""

from __future__ import annotations

from dataclasses import asdict, replace

from torch import Tensor, nn

from evalsuite.checksums import BLANK, sealing, verified, warn_of
from evalsuite.engines.deploy import deploy
from evalsuite.errors import ReasonCode, Refused
from evalsuite.exporting.graph import exported
from evalsuite.extras import MissingExtra
from evalsuite.running.latency import latency_of
from evalsuite.running.quantized_models import QuantizedModel
from evalsuite.running.workspace import Workspace
from evalsuite.study.trials import Trial


def on_engine(quantized: QuantizedModel, trial: Trial, workspace: Workspace, image: Tensor) -> QuantizedModel:
    """Return a trial's network as the engine that it asks for computes it; as it is, where that is the simulation.

    Parameters
    ----------
    image : (1, C, H, W) normalised.

    Raises
    ------
    Refused
        If it cannot be exported, or the engine is not installed or cannot run it, with the reason.
    """
    if not trial.quantizer.exported:
        return quantized
    try:
        content = _graph(quantized.module, trial, workspace, image)
        network = deploy(content, trial.quantizer.engine, image)
        latency = latency_of(network, trial.quantizer.engine, trial.task, workspace.root, image)
    except MissingExtra as error:
        raise Refused(str(error), ReasonCode.NOT_INSTALLED) from error
    measured = {"graph_bytes": len(content)} | ({} if latency is None else asdict(latency))
    return replace(quantized, module=network, measured=measured)


def _graph(network: nn.Module, trial: Trial, workspace: Workspace, image: Tensor) -> bytes:
    file = workspace.graph_file(trial.quantization)
    if file.is_file():
        try:
            return bytes(verified(file, lambda _: True).read()[: -len(BLANK)])
        except (OSError, ValueError) as error:
            warn_of(file, error, "the network is exported again")
    content = exported(network, image).content
    with sealing(file) as temporary:
        temporary.write_bytes(content + BLANK.encode())
    return content
