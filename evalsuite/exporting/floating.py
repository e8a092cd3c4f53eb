"""A network as an ONNX file, by torch's own exporter."""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from evalsuite.errors import ReasonCode, Refused

INPUT, OUTPUT = "images", "logits"


def onnx_of(model: nn.Module, image: Tensor, opset: int | None = None, single: bool = False) -> bytes:
    """Return a network as an ONNX file that takes any number of images.

    Of a network that counts its images in Python, ``len(images)``, the number is fixed: two.

    Parameters
    ----------
    image : (1, C, H, W) normalised, on the model's device.
    opset : of the file; None: the exporter's own choice.
    single : whether it takes one image at a time instead.

    Raises
    ------
    Refused
        If torch cannot export it, with its reason.
    """
    # Two images: of one, the exporter would take the batch's size for a constant.
    example = (image if single else torch.cat([image, image]),)
    with tempfile.TemporaryDirectory(prefix="evalsuite-") as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of its own internals
        file = Path(folder) / "exported.onnx"
        try:
            torch.onnx.export(
                model,
                example,
                file,
                input_names=[INPUT],
                output_names=[OUTPUT],
                opset_version=opset,
                dynamo=True,
                dynamic_shapes=None if single else ({0: torch.export.Dim("batch")},),
                external_data=False,
                verbose=False,
            )
        except Exception as error:  # whatever the exporter makes of a network that it cannot trace
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            message = f"{type(model).__name__} cannot be exported to ONNX: {reason}"
            raise Refused(message, ReasonCode.UNSUPPORTED_OPERATION) from error
        return file.read_bytes()
