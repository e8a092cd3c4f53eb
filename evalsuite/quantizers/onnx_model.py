"""A network from an ONNX file: quantized as it comes, or by ONNX Runtime where it computes in floating point."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from evalsuite.bits import BitPolicy
from evalsuite.errors import ReasonCode, Refused, RequestError
from evalsuite.extras import import_extra
from evalsuite.hashing import digest_bytes
from evalsuite.quantization.grids.range_setting import check_images
from evalsuite.quantizers._given import GivenNetwork, checked_given, content_of, same_content
from evalsuite.quantizers._onnx_engine import ENGINE, EngineNetwork, Graph, first_line, quantized_graph

_EXPECTED = "an ONNX file of a network: images in, logits out"
_DOMAINS = frozenset({"", "ai.onnx", "com.microsoft"})  # ONNX's own operations, and those that ONNX Runtime brings
_INTEGER = frozenset({"QuantizeLinear", "DequantizeLinear", "ConvInteger", "MatMulInteger", "MatMulNBits"})
_INTEGER_PREFIXES = ("QLinear", "DynamicQuantize", "QGemm", "QAttention")
_FLOATS = ("tensor(float)", "tensor(float16)", "tensor(double)")


@dataclass(frozen=True)
class ONNXModel:
    """The network of an ONNX file, run by ONNX Runtime (CPU).

    A graph with integer operations, in QDQ or operator format, is run as it is: bit widths and calibration images play
    no role. One in floating point is quantized by ONNX Runtime's static quantization, as quantizer ``onnxruntime``
    does it: W8A8, min-max ranges, weights symmetric, per output channel if the policy says so. Sums of 8-bit products
    are exact on every processor, which ONNX Runtime's own defaults are not on x86 without VNNI.

    Parameters
    ----------
    path : the file; what it keeps in files beside it is read as well.
    digest : of the whole network, which has to be the same whenever it is read; empty: any.
    """

    path: str
    digest: str = ""

    engine: ClassVar[str] = ENGINE

    def __str__(self) -> str:
        return Path(self.path).name

    def insert(self, model: nn.Module, bits: BitPolicy, example: Tensor) -> nn.Module:
        """Return the network of the file.

        Raises
        ------
        RequestError
            If it cannot be read, has another digest, needs operations that are not ONNX Runtime's own, or does not
            give finite logits of the task's images.
        Refused
            If it computes in floating point, for a policy other than 8 bits.
        """
        content = onnx_content(self.path)
        same_content(self.path, self.digest, digest_bytes(content))
        graph = Graph(content)
        _check_signature(str(self), graph, example)
        network = checked_given(str(self), GivenNetwork(graph, self.engine), model, example)
        if is_quantized(content):
            return network
        _refuse_policy(bits)
        return EngineNetwork(network, bits.per_channel).eval()

    def calibrate(self, model: nn.Module, images: Tensor, generator: torch.Generator) -> None:
        """Quantize a graph in floating point on (N, C, H, W) normalised images, in place.

        Raises
        ------
        Refused
            If ONNX Runtime cannot quantize it, with its reason.
        """
        if not isinstance(model, EngineNetwork):
            return
        check_images(images)
        content = onnx_content(self.path)
        same_content(self.path, self.digest, digest_bytes(content))
        try:
            model.take(quantized_graph(content, images.cpu(), model.per_channel))
        except Exception as error:  # most of its checks are bare assertions
            reason = f"ONNX Runtime cannot quantize it: {first_line(error)}"
            raise Refused(reason, ReasonCode.UNSUPPORTED_OPERATION) from error


def onnx_content(path: str) -> bytes:
    """Return an ONNX file in one piece, with what it keeps in files beside it; no code of it is run.

    Raises
    ------
    RequestError
        If it cannot be read, takes over 2 GB, reaches outside of its folder, or needs operations that are not ONNX
        Runtime's own.
    """
    onnx = import_extra("onnx", "onnx", f"the network {path}")
    content_of(path, "", _EXPECTED)
    try:
        model = onnx.load(path)
        content: bytes = model.SerializeToString(deterministic=True)
    except Exception as error:  # of damaged bytes its readers make what they like
        raise RequestError(f"{path} cannot be read: {first_line(error)}; expected {_EXPECTED}") from error
    own = {function.domain for function in model.functions}
    foreign = {node.domain for node in _nodes(model) if node.domain not in own} - _DOMAINS
    if foreign:
        raise RequestError(
            f"{path} needs operations of {', '.join(sorted(foreign))}, which would run code of theirs: expected "
            "operations of ONNX and of ONNX Runtime alone"
        )
    return content


def is_quantized(content: bytes) -> bool:
    """Whether an ONNX file computes with integers."""
    onnx = import_extra("onnx", "onnx", "a network in an ONNX file")
    return any(
        node.op_type in _INTEGER or node.op_type.startswith(_INTEGER_PREFIXES)
        for node in _nodes(onnx.load_from_string(content))
    )


def _nodes(model: Any) -> Iterator[Any]:
    yield from _within(model.graph.node)
    for function in model.functions:
        yield from _within(function.node)


def _within(nodes: Any) -> Iterator[Any]:
    """Yield nodes and those of the graphs in their attributes."""
    for node in nodes:
        yield node
        for attribute in node.attribute:
            for graph in (*attribute.graphs, attribute.g):
                yield from _within(graph.node)


def _check_signature(title: str, graph: Graph, example: Tensor) -> None:
    """Raise RequestError unless a graph can be run, takes the task's images and gives one tensor."""
    try:
        given, found = graph.session.get_inputs(), graph.session.get_outputs()
    except RequestError as error:
        raise RequestError(f"{title}: {error}") from error
    expected = f"expected one input of images (N, {', '.join(map(str, example.shape[1:]))}) and one output of logits"
    if len(given) != 1 or len(found) != 1:
        raise RequestError(f"{title} has {len(given)} inputs and {len(found)} outputs: {expected}")
    if given[0].type not in _FLOATS:
        raise RequestError(f"{title} takes {given[0].type}: {expected}, in floating point")
    shape = given[0].shape
    sizes = zip(shape[1:], example.shape[1:], strict=False)
    if len(shape) != 4 or any(isinstance(size, int) and size != wanted for size, wanted in sizes):
        raise RequestError(f"{title} takes images of shape ({', '.join(map(str, shape))}): {expected}")


def _refuse_policy(bits: BitPolicy) -> None:
    widths = {bits.weight_bits, bits.activation_bits, bits.first_last_bits}
    widths |= {chosen for chosen in (bits.first_bits, bits.last_bits) if chosen is not None}
    if widths != {8} or bits.overrides or bits.has_formats:
        raise Refused(f"ONNX Runtime quantizes to W8A8, every layer alike; expected this instead of {bits}")
