"""A quantized network as an ONNX graph with QuantizeLinear and DequantizeLinear, which holds exactly what was learnt.

torch's exporter writes the network in floating point with a mark where each grid is; then each mark becomes the nodes
and integers that say the grid. So nothing learnt passes through an optimiser of graphs that could round or fold it.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import evalsuite
from evalsuite.errors import ReasonCode, Refused
from evalsuite.exporting.floating import onnx_of
from evalsuite.exporting.grids import FloatGrid, Grid, IntegerGrid, grids_of
from evalsuite.extras import import_extra
from evalsuite.quantization.graph.hooks import replace_modules
from evalsuite.quantization.grids.layers import QuantLayer, activation_quantizers, quantized_layers
from evalsuite.weight_layers import CONVOLUTIONS

OPSET = 21
"""The first whose QuantizeLinear and DequantizeLinear have integers of 4 and 16 bits; floats of 8 since 19."""
PRODUCER = "evalsuite"
_IR = 10  # the version of the file format that came with it
_DOMAIN, _MARK, _NAME = "evalsuite", "Grid", "name"


@dataclass(frozen=True, eq=False)
class Exported:
    """An ONNX file and the grids in it, by the name of the tensor that DequantizeLinear gives."""

    content: bytes
    grids: Mapping[str, Grid]


def exported(model: nn.Module, image: Tensor) -> Exported:
    """Return what a simulated quantizer made as an ONNX file of opset 21, in float32.

    It takes any number of images; one at a time of a network that counts them in Python, ``len(images)``.

    Each quantized weight is a DequantizeLinear of its integers or 8-bit floats, each quantized activation a
    QuantizeLinear and a DequantizeLinear. A grid with fewer integers than ONNX's type (3 bits in ``uint4``) has a Clip
    before it that ends where the grid ends; to floats is rounded with saturation, as in simulation. Biases and what is
    not quantized stay in floating point.

    Parameters
    ----------
    image : (1, C, H, W) normalised, on the model's device.

    Raises
    ------
    RequestError
        If the packages of the extra ``onnx`` are not installed.
    Refused
        For a grid that ONNX cannot say, or a network that torch cannot export, with the reason.
    """
    grids = grids_of(model)
    return with_grids(marked_graph(model, image, grids), grids)


def marked_graph(model: nn.Module, image: Tensor, grids: Mapping[str, Grid]) -> bytes:
    """Return a network in floating point as an ONNX file, with a mark that has its name where each grid is.

    Raises as :func:`exported`.
    """
    onnx = import_extra("onnx", "onnx", "exporting to ONNX")
    import_extra("onnxscript", "onnx", "exporting to ONNX")
    marked, image = _marked(copy.deepcopy(model).cpu().float().eval(), grids), image.detach().cpu().float()
    content = onnx_of(marked, image, OPSET)
    (taken,) = onnx.load_from_string(content).graph.input
    if taken.type.tensor_type.shape.dim[0].HasField("dim_value"):  # fixed to the number of the example's images
        return onnx_of(marked, image, OPSET, single=True)
    return content


class _Marked(nn.Module):
    """Stands where a quantizer stood: a mark with its name."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def forward(self, x: Tensor) -> Tensor:
        return _mark(x, self.name)


class _MarkedLayer(nn.Module):
    """Stands where a quantized layer stood: its input and its weight are marked."""

    def __init__(self, layer: QuantLayer, name: str) -> None:
        super().__init__()
        self.input_quantizer = layer.input_quantizer
        self.name = name
        linear = isinstance(layer, nn.Linear)
        self.weight = nn.Parameter(layer.weight.detach().T.contiguous() if linear else layer.weight.detach())
        self.bias: nn.Parameter | None = layer.bias if isinstance(layer.bias, nn.Parameter) else None
        self._layer = (layer,)  # in a tuple, so that its tensors are not exported

    def forward(self, x: Tensor) -> Tensor:
        (layer,) = self._layer
        x, weight = self.input_quantizer(x), _mark(self.weight, self.name)
        if isinstance(layer, nn.Linear):  # a product that no transposition stands before
            product = torch.matmul(x, weight)
            return product if self.bias is None else product + self.bias
        assert isinstance(layer, CONVOLUTIONS)
        out: Tensor = layer._conv_forward(x, weight, self.bias)
        return out


def _mark(x: Tensor, name: str) -> Tensor:
    marked: Tensor = torch.onnx.ops.symbolic(
        f"{_DOMAIN}::{_MARK}", (x,), {_NAME: name}, dtype=x.dtype, shape=x.shape, version=1
    )
    return marked


def _marked(twin: nn.Module, grids: Mapping[str, Grid]) -> nn.Module:
    """Put marks into a private copy, in place."""
    marks: dict[nn.Module, nn.Module] = {
        quantizer: _Marked(name) if name in grids else nn.Identity()
        for name, quantizer in activation_quantizers(twin).items()
    }
    layers = quantized_layers(twin)
    replace_modules(twin, marks)
    names = {layer: f"{name}.weight" if name else "weight" for name, layer in layers.items()}
    return replace_modules(twin, {layer: _MarkedLayer(layer, name) for layer, name in names.items()})


def with_grids(content: bytes, grids: Mapping[str, Grid]) -> Exported:
    """Return a graph of :func:`marked_graph` with nodes and integers in the place of the marks."""
    onnx = import_extra("onnx", "onnx", "exporting to ONNX")
    model = onnx.load_from_string(content)
    graph, writer = model.graph, _Writer(onnx, grids)
    nodes = [made for node in graph.node for made in (writer.nodes(node) if node.domain == _DOMAIN else [node])]
    _check_operations(model, nodes)
    for node in nodes:
        node.input[:] = [writer.renamed.get(name, name) for name in node.input]
    read = {name for node in nodes for name in node.input} - set(writer.said)
    kept = [tensor for tensor in graph.initializer if tensor.name in read]
    for field, values in ((graph.node, nodes), (graph.initializer, [*kept, *writer.tensors.values()])):
        chosen = list(values)
        del field[:]
        field.extend(chosen)
    del graph.value_info[:]  # of names that may be gone; whoever reads the graph finds shapes anew
    del model.opset_import[:], model.metadata_props[:]
    model.opset_import.append(onnx.helper.make_opsetid("", OPSET))
    model.ir_version, model.producer_name, model.producer_version = _IR, PRODUCER, evalsuite.__version__
    onnx.checker.check_model(model)
    return Exported(model.SerializeToString(deterministic=True), writer.said)


def _check_operations(model: Any, nodes: list[Any]) -> None:
    """Raise Refused unless all operations are ONNX's own, of the opset that was asked for."""
    others = {node.domain for node in nodes} - {"", "ai.onnx"}
    versions = {found.version for found in model.opset_import if found.domain in ("", "ai.onnx")}
    if others or versions != {OPSET}:
        found = f"operations of {', '.join(sorted(others))}" if others else f"opset {sorted(versions)}"
        message = f"torch's exporter gave {found}: expected ONNX's own, opset {OPSET}"
        raise Refused(message, ReasonCode.UNSUPPORTED_OPERATION)


class _Writer:
    """Makes the nodes and the tensors of grids, those of each grid once.

    Attributes
    ----------
    tensors : integers, floats of 8 bits, scales and zero points, by name.
    said : the grids, by the name of the tensor that DequantizeLinear gives.
    renamed : what the marks gave, under its new name.
    """

    def __init__(self, onnx: Any, grids: Mapping[str, Grid]) -> None:
        self.onnx = onnx
        self.grids = grids
        self.tensors: dict[str, Any] = {}
        self.said: dict[str, Grid] = {}
        self.renamed: dict[str, str] = {}

    def nodes(self, mark: Any) -> list[Any]:
        """Return what stands for a mark; its last node gives what the mark gave, under the grid's name."""
        (name,) = (attribute.s.decode() for attribute in mark.attribute if attribute.name == _NAME)
        grid, (given,), (old,) = self.grids[name], mark.input, mark.output
        out = next(each for each in self._names(name) if each not in self.said)
        self.said[out], self.renamed[old] = grid, out
        steps = [self._floats(f"{name}.scale", grid.scale), self._codes(f"{name}.zero_point", grid.zero_point, grid)]
        if grid.codes is not None:
            part = "integers" if isinstance(grid, IntegerGrid) else "floats"
            packed = self._codes(f"{name}.{part}", grid.codes, grid)
            return [self._node("DequantizeLinear", [packed, *steps], out, grid)]
        found = []
        if isinstance(grid, IntegerGrid) and not grid.fills:
            ends = [self._floats(f"{name}.{side}", grid.real(end)) for side, end in grid.reach._asdict().items()]
            clipped = f"{out}.clipped"
            found.append(self.onnx.helper.make_node("Clip", [given, *ends], [clipped], name=clipped))
            given = clipped
        rounded = f"{out}.rounded"
        saturating = {"saturate": 1} if isinstance(grid, FloatGrid) else {}  # ONNX's default, but for all to read
        found.append(self._node("QuantizeLinear", [given, *steps], rounded, grid, **saturating))
        return [*found, self._node("DequantizeLinear", [rounded, *steps], out, grid)]

    @staticmethod
    def _names(name: str) -> Iterator[str]:
        """Yield names for a quantizer's first call, its second..."""
        yield name
        yield from (f"{name}.{number}" for number in itertools.count(2))

    def _node(self, kind: str, inputs: list[str], out: str, grid: Grid, **attributes: int) -> Any:
        axis = {} if grid.axis is None else {"axis": grid.axis}
        return self.onnx.helper.make_node(kind, inputs, [out], name=f"{out}.{kind}", **axis, **attributes)

    def _floats(self, name: str, values: NDArray[np.float32]) -> str:
        return self._tensor(name, self.onnx.TensorProto.FLOAT, np.shape(values), np.asarray(values, "<f4").tobytes())

    def _codes(self, name: str, values: NDArray[np.int32], grid: Grid) -> str:
        kind = getattr(self.onnx.TensorProto, grid.type.upper())
        return self._tensor(name, kind, np.shape(values), packed(values, grid.width))

    def _tensor(self, name: str, kind: int, shape: tuple[int, ...], content: bytes) -> str:
        if name not in self.tensors:
            self.tensors[name] = self.onnx.helper.make_tensor(name, kind, shape, content, raw=True)
        return name


def packed(integers: NDArray[np.int32], width: int) -> bytes:
    """Return integers of 4, 8 or 16 bits as ONNX keeps them: two's complement, the lowest byte, or half, first."""
    flat = np.asarray(integers).reshape(-1)
    if width > 4:
        return flat.astype(f"<i{width // 8}" if flat.min(initial=0) < 0 else f"<u{width // 8}").tobytes()
    halves = (flat & 0xF).astype(np.uint8)
    pairs = np.append(halves, np.zeros(len(halves) % 2, np.uint8)).reshape(-1, 2)
    return (pairs[:, 0] | pairs[:, 1] << 4).astype(np.uint8).tobytes()
