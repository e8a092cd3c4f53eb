"""``evalsuite.export``: a quantized network into an ONNX file, with its encodings beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor, nn

from evalsuite.arguments import image_tensor
from evalsuite.errors import Refused, RequestError
from evalsuite.exporting.encodings import encodings
from evalsuite.exporting.graph import Exported, exported
from evalsuite.files import replacing, write_json
from evalsuite.networks import floating_type, outside_inference


def export(module: nn.Module, path: str | Path, example: Tensor | Any) -> Path:
    """Write a quantized network as an ONNX graph that holds exactly the learnt integers, scales and zero points.

    Weights are DequantizeLinear of packed integers (per channel where the policy says so; INT4 of 4 bits or fewer) or
    of 8-bit floats (FP8, FP8-E5M2), activations QuantizeLinear and DequantizeLinear; opset 21; it takes any number of
    images at a time, one of a network that counts them by ``len``. Beside it lies ``path`` with the ending
    ``.encodings``: the same grids as JSON in AIMET's schema 2.0.0, by the name of the tensor that DequantizeLinear
    gives.

    Parameters
    ----------
    module : what :func:`evalsuite.quantize` returned; stays untouched.
    path : of the file, which ends in ``.onnx``.
    example : (1, C, H, W) normalised image.

    Returns
    -------
    The path of the graph.

    Raises
    ------
    RequestError
        If the packages of ``evalsuite[onnx]`` are not installed, the path ends otherwise or cannot be written, the
        network holds what ONNX cannot say (a grid that is not uniform, a format of blocks, a grid of each token's own),
        which is named, or torch cannot export it.
    """
    if not isinstance(module, nn.Module):
        raise RequestError(f"the model is a {type(module).__name__}: expected what evalsuite.quantize returned")
    file = onnx_file(path)
    with outside_inference():
        image = image_tensor(example, "the example", *floating_type(module))[:1]
        try:
            made = exported(module, image)
        except Refused as refused:
            raise RequestError(" ".join(str(refused).split())) from refused
    return written(made, file)


def onnx_file(path: str | Path) -> Path:
    """Return the path of an ONNX file. Raises RequestError if it ends otherwise."""
    file = Path(path)
    if file.suffix.lower() != ".onnx":
        raise RequestError(f"{file} ends in {file.suffix or 'nothing'!r}: expected a name that ends in .onnx")
    return file


def written(made: Exported, file: Path) -> Path:
    """Write a graph and its encodings; return the graph's path. Raises RequestError if it cannot be written."""
    with replacing(encodings_file(file)) as beside, replacing(file) as temporary:
        temporary.write_bytes(made.content)
        write_json(beside, encodings(made.grids))
    return file


def encodings_file(file: Path) -> Path:
    """Return the path of the encodings beside a graph."""
    return file.with_suffix(".encodings")
