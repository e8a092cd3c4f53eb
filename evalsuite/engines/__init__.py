"""What computes an exported graph: an engine a file, found by name.

An engine is a class with the method ``start``: the bytes of an ONNX file in, a callable (N, C, H, W) images ->
(N, classes) logits out, which computes with as many threads as torch. ``deploy`` puts a quantized network on one.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from evalsuite.errors import unknown_name
from evalsuite.optional_members import SIMULATED

if TYPE_CHECKING:
    from torch import Tensor

_WHERE = {
    "onnxruntime": "evalsuite.engines.onnxruntime:ONNXRuntimeEngine",
    "onnxruntime_defaults": "evalsuite.engines.onnxruntime:ONNXRuntimeDefaults",
    "openvino": "evalsuite.engines.openvino:OpenVINOEngine",
    "openvino_defaults": "evalsuite.engines.openvino:OpenVINODefaults",
}
ENGINES = (SIMULATED, *_WHERE)
"""What a study may ask for, the simulation first."""


class Engine(Protocol):
    """What runs an ONNX graph."""

    def start(self, content: bytes) -> Callable[[Tensor], Tensor]:
        """Return what computes the logits of float32 images on the CPU.

        Raises
        ------
        RequestError
            If the engine's packages are not installed; names the extra that brings them.
        Exception
            Whatever the engine raises for a graph that it cannot run.
        """
        ...


def check_engine(name: object) -> str:
    """Return the name of an engine. Raises RequestError, with the nearest one, for one that is not known."""
    if str(name) not in ENGINES:
        raise unknown_name("engine", str(name), ENGINES)
    return str(name)


def package_of(name: str) -> str:
    """Return the package that an engine is in, after which its module is named, without importing either."""
    return _WHERE[check_engine(name)].partition(":")[0].rpartition(".")[2]


def engine_named(name: str) -> Engine:
    """Return an engine other than the simulation. Raises RequestError for one that is not known."""
    where, _, attribute = _WHERE[check_engine(name)].partition(":")
    found: Engine = getattr(importlib.import_module(where), attribute)()
    return found
