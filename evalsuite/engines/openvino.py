"""OpenVINO on the CPU."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from evalsuite.extras import import_extra
from evalsuite.quantizers._given import in_batches

_DEVICE = "CPU"


class OpenVINOEngine:
    """OpenVINO's CPU plugin: what it transforms to integers computes in these, all else in float32.

    float32 instead of its default on processors with bfloat16 units (``INFERENCE_PRECISION_HINT``), so that what
    differs from the simulation is the quantized part; one stream, as many threads as torch. Activations in
    8-bit floats it rounds to float16 first, unlike ONNX: of every 1,000 values 2 become ties and get the neighbour that
    is not nearest, and NaN becomes the least value. Releases that do not know the types (2025.3) refuse the graph.
    """

    def start(self, content: bytes) -> OpenVINOGraph:
        """Return the compiled graph. Raises RequestError if the package is missing."""
        graph = OpenVINOGraph(content)
        _ = graph.compiled
        return graph


class OpenVINOGraph:
    """An ONNX graph that OpenVINO runs: (N, C, H, W) normalised images in, logits out.

    Parameters
    ----------
    content : the ONNX file, without anything beside it.
    """

    def __init__(self, content: bytes) -> None:
        self.content = content
        self._compiled: tuple[int, Any] | None = None

    @property
    def compiled(self) -> Any:
        """The running engine, of as many threads as torch has now."""
        threads = torch.get_num_threads()
        if self._compiled is None or self._compiled[0] != threads:
            self._compiled = threads, _compiled(self.content, threads)
        return self._compiled[1]

    def __call__(self, images: Tensor) -> Tensor:
        """Return the (N, classes) logits."""
        first = self.compiled.input(0).partial_shape[0]
        if first.is_dynamic:
            return self._run(images)
        logits: Tensor = in_batches(self._run, images, first.get_length())
        return logits

    def _run(self, images: Tensor) -> Tensor:
        given = images.detach().float().cpu().contiguous().numpy()
        return torch.from_numpy(self.compiled([given])[0].copy())

    def __deepcopy__(self, memo: dict[int, Any]) -> OpenVINOGraph:
        return self

    def __getstate__(self) -> dict[str, Any]:
        """Leave the running engine out of pickles; each makes its own."""
        return {**self.__dict__, "_compiled": None}


def _compiled(content: bytes, threads: int) -> Any:
    openvino = import_extra("openvino", "openvino", "engine 'openvino'")
    core = openvino.Core()
    settings = {
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": "f32",
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
    }
    return core.compile_model(core.read_model(model=content), _DEVICE, settings)
