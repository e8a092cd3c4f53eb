"""ONNX Runtime on the CPU."""

from __future__ import annotations

from typing import ClassVar

from evalsuite.quantizers._onnx_engine import Graph


class ONNXRuntimeEngine:
    """ONNX Runtime's CPU kernels, its graph optimisations on: those of integers where it fuses what it is given.

    It computes a convolution or product in integers where QuantizeLinear follows it, or nothing but an activation
    function between them; all others in floating point, on the values that the integers stand for. Graphs with 8-bit
    floats, or activations of 4 bits, get the basic optimisations only, without those of QuantizeLinear, for these
    misread such types: it rounds them with its own kernels, which agree with the simulation bit for bit, and computes
    in floating point.

    Sums of 8-bit products are exact on every processor (``session.x64quantprecision``), as they are by its defaults on
    those with instructions for them.
    """

    saturate: ClassVar[bool] = False

    def start(self, content: bytes) -> Graph:
        """Return the running graph. Raises RequestError if packages are missing or it cannot be read."""
        graph = Graph(content, self.saturate)
        _ = graph.session  # begun now, so that what it cannot read is said here
        return graph


class ONNXRuntimeDefaults(ONNXRuntimeEngine):
    """ONNX Runtime as it computes on this processor unless told otherwise.

    On x86 without VNNI sums of two products are cut at 16 bits, which weights of 8 bits and activations of 8 reach.
    """

    saturate: ClassVar[bool] = True
