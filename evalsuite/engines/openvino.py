"""OpenVINO on the CPU."""

from __future__ import annotations

import functools
from typing import Any, ClassVar

import numpy as np
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

    Where the processor's integer kernels lose what exceeds 16 bits (x86 without VNNI), all computes in float32, on the
    same integers: slower, and what it is on other processors.
    """

    saturate: ClassVar[bool] = False

    def start(self, content: bytes) -> OpenVINOGraph:
        """Return the compiled graph. Raises RequestError if the package is missing."""
        graph = OpenVINOGraph(content, self.saturate)
        _ = graph.compiled
        return graph


class OpenVINODefaults(OpenVINOEngine):
    """OpenVINO in integers whatever this processor makes of them.

    On x86 without VNNI sums of two products are cut at 16 bits, which weights of 8 bits and activations of 8 reach.
    """

    saturate: ClassVar[bool] = True


class OpenVINOGraph:
    """An ONNX graph that OpenVINO runs: (N, C, H, W) normalised images in, logits out.

    Parameters
    ----------
    content : the ONNX file, without anything beside it.
    saturate : compute in integers also where sums of products are then cut.
    """

    def __init__(self, content: bytes, saturate: bool = False) -> None:
        self.content, self.saturate = content, saturate
        self._compiled: tuple[int, Any] | None = None

    @property
    def compiled(self) -> Any:
        """The running engine, of as many threads as torch has now."""
        threads = torch.get_num_threads()
        if self._compiled is None or self._compiled[0] != threads:
            self._compiled = threads, _compiled(self.content, threads, self.saturate)
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


def _compiled(content: bytes, threads: int, saturate: bool) -> Any:
    openvino = import_extra("openvino", "openvino", "engine 'openvino'")
    core = openvino.Core()
    settings = {
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": "f32",
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
    }
    if not saturate and saturates():
        settings["LP_TRANSFORMS_MODE"] = "NO"
    return core.compile_model(core.read_model(model=content), _DEVICE, settings)


@functools.cache
def saturates() -> bool:
    """Whether this processor's integer kernels cut sums of products, which OpenVINO does not tell: by a known sum."""
    openvino = import_extra("openvino", "openvino", "engine 'openvino'")
    ops, size = openvino.opset13, 64
    given = ops.parameter([size, size], np.float32)
    activation = ops.fake_quantize(given, *map(np.float32, (0, 255, 0, 255)), 256)
    weight = ops.fake_quantize(np.full((size, size), 127, np.float32), *map(np.float32, (-127, 127, -127, 127)), 255)
    model = openvino.Model([ops.matmul(activation, weight, False, True)], [given])
    found = openvino.Core().compile_model(model, _DEVICE)([np.full((size, size), 255, np.float32)])[0]
    return bool(np.any(found < 0.99 * size * 127 * 255))
