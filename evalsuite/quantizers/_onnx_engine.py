"""ONNX Runtime: running a graph on its CPU kernels, and its static W8A8 quantization."""

from __future__ import annotations

import copy
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from evalsuite.errors import RequestError
from evalsuite.extras import import_extra
from evalsuite.quantization.grids.range_setting import batches
from evalsuite.quantizers._given import in_batches

ENGINE = "onnxruntime"
_BATCH = 8  # calibration images at a time
# Integer kernels have none of these: quantizing around them would only add rounding.
_FLOATING = ("BatchNormalization", "InstanceNormalization", "LayerNormalization")
_TYPES = {"tensor(float)": torch.float32, "tensor(double)": torch.float64, "tensor(float16)": torch.float16}


def packages() -> tuple[Any, Any]:
    """Return ``onnxruntime`` and its ``quantization``. Raises RequestError if one is not installed."""
    needed = ("onnx", "onnxscript", "onnxruntime", "onnxruntime.quantization")
    *_, engine, quantization = (import_extra(name, "onnx", "quantizer 'onnxruntime'") for name in needed)
    return engine, quantization


class Graph:
    """An ONNX graph on ONNX Runtime's CPU kernels: (N, C, H, W) normalised images in, logits out.

    Computes with as many threads as torch; the same images give the same logits. Copies share it.

    Parameters
    ----------
    content : the ONNX file, without anything beside it.
    saturate : leave it to the processor whether sums of products are cut, as ONNX Runtime does unless told otherwise.
    """

    def __init__(self, content: bytes, saturate: bool = False) -> None:
        self.content, self.saturate = content, saturate
        self._session: tuple[int, Any] | None = None

    @property
    def session(self) -> Any:
        """The running engine. Raises RequestError if the graph is damaged."""
        threads = torch.get_num_threads()
        if self._session is None or self._session[0] != threads:
            self._session = threads, _session(self.content, threads, self.saturate)
        return self._session[1]

    @property
    def batch(self) -> int | None:
        """How many images it takes at a time, where that is fixed."""
        first = self.session.get_inputs()[0].shape[0]
        return first if isinstance(first, int) else None

    def __call__(self, images: Tensor) -> Tensor:
        """Return the (N, classes) logits."""
        session, batch = self.session, self.batch
        if batch is None:
            return _run(session, images)
        logits: Tensor = in_batches(lambda part: _run(session, part), images, batch)
        return logits

    def __deepcopy__(self, memo: dict[int, Any]) -> Graph:
        return self

    def __getstate__(self) -> dict[str, Any]:
        """Leave the running engine out of pickles; each makes its own."""
        return {**self.__dict__, "_session": None}


def _run(session: Any, images: Tensor) -> Tensor:
    (taken,) = session.get_inputs()
    given = images.detach().to(_TYPES.get(taken.type, torch.float32)).cpu().contiguous().numpy()
    return torch.from_numpy(session.run([session.get_outputs()[0].name], {taken.name: given})[0]).to(images.device)


class EngineNetwork(nn.Module):
    """A network that runs in ONNX Runtime: (N, C, H, W) normalised images in, logits out, no gradients.

    Computes on the CPU with as many threads as torch; the same images give the same logits.

    Parameters
    ----------
    source : computes what the network does as long as there is no graph.
    per_channel : whether weights are to be quantized per output channel.

    Attributes
    ----------
    graph : (bytes,) uint8 buffer, the ONNX file; empty at first.
    engine : by which others see that there is nothing to look at inside.
    """

    graph: Tensor
    engine = ENGINE

    def __init__(self, source: nn.Module, per_channel: bool) -> None:
        super().__init__()
        self.per_channel = per_channel
        self.register_buffer("graph", torch.empty(0, dtype=torch.uint8))
        self._source: tuple[nn.Module, ...] = (source,)  # in a tuple, so that it is no part of the state
        self._running: Graph | None = None

    def source(self) -> nn.Module:
        """Return a private copy of the floating-point network. Raises RequestError once there is a graph."""
        if not self._source:
            raise RequestError("this network is quantized already: expected what insert returns")
        return copy.deepcopy(self._source[0])

    def take(self, graph: bytes) -> None:
        """Run this ONNX file from here on; the floating-point network is given up."""
        self.graph = torch.frombuffer(bytearray(graph), dtype=torch.uint8).to(self.graph.device)
        self._source, self._running = (), None

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Return the (N, classes) logits."""
        if self._source:
            logits: Tensor = self._source[0].to(images.device)(images)
            return logits
        if self._running is None:
            self._running = Graph(self.graph.cpu().numpy().tobytes())
        return self._running(images.float())

    def __getstate__(self) -> dict[str, Any]:
        """Leave the running engine out of copies and pickles; each makes its own."""
        return {**self.__dict__, "_running": None}

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        given = state_dict.get(f"{prefix}graph")
        if isinstance(given, Tensor) and given.numel():
            self.graph = torch.empty_like(given, device=self.graph.device)  # graphs differ in length
            self._source, self._running = (), None
        super()._load_from_state_dict(state_dict, prefix, *args)

    def extra_repr(self) -> str:
        """Show the size of the graph."""
        return f"engine={self.engine}, graph={self.graph.numel()} bytes"


def quantized_graph(graph: bytes, images: Tensor, per_channel: bool, reduce_range: bool = False) -> bytes:
    """Return an ONNX file quantized on (N, C, H, W) normalised images by ONNX Runtime's static quantization.

    Min-max ranges, activations uint8 per tensor, weights int8 symmetric, QDQ format.

    Raises
    ------
    Exception
        Whatever ONNX Runtime makes of a graph that it cannot quantize: most of its checks are bare assertions.
    """
    _, quantization = packages()
    from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry
    from onnxruntime.quantization.shape_inference import quant_pre_process

    floating = Graph(graph)
    (taken,) = floating.session.get_inputs()
    size = floating.batch

    class Reader(quantization.CalibrationDataReader):  # type: ignore[name-defined, misc]
        def __init__(self) -> None:
            self.rest: Iterator[Tensor] = batches(images, size or _BATCH)

        def get_next(self) -> dict[str, Any] | None:
            batch = next(self.rest, None)
            if batch is not None and size is not None:  # an extreme stays one however often it is seen
                batch = torch.cat([batch, batch[-1:].expand(size - len(batch), -1, -1, -1)])
            return None if batch is None else {taken.name: batch.numpy()}

    with tempfile.TemporaryDirectory(prefix="evalsuite-") as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of its own internals
        exported, prepared, quantized = (
            Path(folder) / f"{name}.onnx" for name in ("exported", "prepared", "quantized")
        )
        exported.write_bytes(graph)
        quant_pre_process(exported, prepared)
        quantization.quantize_static(
            prepared,
            quantized,
            Reader(),
            quant_format=quantization.QuantFormat.QDQ,
            op_types_to_quantize=sorted({*QDQRegistry, *QLinearOpsRegistry} - {*_FLOATING}),
            per_channel=per_channel,
            reduce_range=reduce_range,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            calibrate_method=quantization.CalibrationMethod.MinMax,
            # A linear layer on (N, features) is a Gemm, and the last of them gives the logits.
            extra_options={"OpTypesToExcludeOutputQuantization": ["Gemm"]},
        )
        return quantized.read_bytes()


def first_line(error: Exception) -> str:
    """Return the first line of what an error says, its type where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _session(graph: bytes, threads: int, saturate: bool) -> Any:
    """Start the engine. Raises RequestError if the graph is damaged."""
    onnxruntime, _ = packages()
    options = session_options(graph, threads, saturate)
    try:
        return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions have no common base of their own
        raise RequestError(
            f"ONNX Runtime cannot read this network's graph, {len(graph)} bytes: {first_line(error)}"
        ) from error


def session_options(graph: bytes, threads: int, saturate: bool = False) -> Any:
    """Return with which options ONNX Runtime runs a graph; the caller's own."""
    onnxruntime, _ = packages()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.use_deterministic_compute = True
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # idle threads leave the cores to others
    if not saturate:  # x86 without VNNI: its kernels of int8 weights cut sums of two products at 16 bits
        options.add_session_config_entry("session.x64quantprecision", "1")
    options.log_severity_level = 3
    if _misread(graph):
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.add_session_config_entry("session.disable_quant_qdq", "1")
    return options


def _misread(graph: bytes) -> bool:
    """Whether a graph has what optimisations take for integers of 8 bits and is none: floats, or activations of 4 bits.

    Of ONNX Runtime 1.31: 8-bit floats are put into integer kernels, which then refuse them; a bias becomes an int32 at
    the product of both scales, which it exceeds where the greatest value is 57344; and a Relu before a QuantizeLinear
    is dropped, as if that had no values below zero.
    """
    onnx = import_extra("onnx", "onnx", "running ONNX graphs")
    try:
        read = onnx.load_from_string(graph).graph
    except Exception:  # of protobuf's; the engine says what is wrong with a damaged graph
        return False
    kinds = {tensor.name: tensor.data_type for tensor in read.initializer}
    constants = (node for node in read.node if node.op_type == "Constant")
    kinds |= {node.output[0]: each.t.data_type for node in constants for each in node.attribute}
    types = onnx.TensorProto
    floats = {types.FLOAT8E4M3FN, types.FLOAT8E4M3FNUZ, types.FLOAT8E5M2, types.FLOAT8E5M2FNUZ}
    rounded = {kinds.get(name) for node in read.node if node.op_type == "QuantizeLinear" for name in node.input[2:]}
    return not floats.isdisjoint(kinds.values()) or not rounded.isdisjoint({types.INT4, types.UINT4})
