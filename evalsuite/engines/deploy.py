"""An exported network on an engine: started, tried."""

from __future__ import annotations

import torch
from torch import Tensor

from evalsuite.engines import engine_named
from evalsuite.errors import ReasonCode, Refused
from evalsuite.extras import MissingExtra
from evalsuite.quantizers._given import GivenNetwork


def deploy(content: bytes, engine: str, image: Tensor) -> GivenNetwork:
    """Return a network as an engine computes it, without gradients, features or layers to look at.

    Parameters
    ----------
    content : of its ONNX file.
    engine : by name, not the simulation.
    image : (1, C, H, W) normalised; the engine is tried on it.

    Raises
    ------
    Refused
        If the engine cannot run it, with the reason: often a node's.
    MissingExtra
        If the engine is not installed.
    """
    try:
        deployed = GivenNetwork(engine_named(engine).start(content), engine).eval()
        logits = deployed(torch.cat([image, image]))
    except MissingExtra:
        raise
    except Exception as error:  # an engine's exceptions have no base in common
        reason = " ".join(str(error).split()) or type(error).__name__  # OpenVINO's says what it is in later lines
        message = f"{engine} cannot run the exported graph: {reason}"
        raise Refused(message, ReasonCode.UNSUPPORTED_OPERATION) from error
    if not bool(torch.isfinite(logits).all()):
        message = f"{engine} gives logits that are not finite: expected those of the simulation"
        raise Refused(message, ReasonCode.UNSUPPORTED_OPERATION)
    return deployed
