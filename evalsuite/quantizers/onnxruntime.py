"""ONNX Runtime as an integer engine: what a deployed W8A8 network computes, and what it costs."""

from __future__ import annotations

import copy
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._pytree import tree_leaves

from evalsuite.bits import BitPolicy
from evalsuite.errors import Refused, RequestError
from evalsuite.extras import import_extra
from evalsuite.quantization.graph.norms import fold_norms
from evalsuite.quantization.grids.range_setting import batches, check_images

_INPUT, _OUTPUT = "images", "logits"
_BATCH = 8  # calibration images at a time
# Integer kernels have none of these: quantizing around them would only add rounding.
_FLOATING = ("BatchNormalization", "InstanceNormalization", "LayerNormalization")


@dataclass(frozen=True)
class ONNXRuntime:
    """ONNX Runtime's static W8A8 quantization, run on its integer kernels (CPU).

    Min-max ranges; activations uint8 per tensor, weights int8 symmetric, per output channel if the policy says so;
    QDQ format, every operation that ONNX Runtime quantizes by default but norms. Sums and activation functions
    between layers are rounded as well, which a simulation of layers alone does not do; logits are not. BatchNorm is
    folded.

    Parameters
    ----------
    reduce_range : whether weights take 7 bits, for processors whose 8-bit products saturate (x86 without VNNI); not,
        as ONNX Runtime's default.
    """

    reduce_range: bool = False

    engine: ClassVar[str] = "onnxruntime"

    def insert(self, model: nn.Module, bits: BitPolicy, example: Tensor) -> EngineNetwork:
        """Return a copy in eval mode that still computes in floating point.

        Raises
        ------
        Refused
            For a policy other than W8A8 with symmetric weights, asymmetric activations and folded norms.
        RequestError
            If the packages of the extra ``onnx`` are not installed.
        """
        _packages()
        _refuse_policy(bits, has_norms=any(isinstance(module, _BatchNorm) for module in model.modules()))
        return EngineNetwork(fold_norms(copy.deepcopy(model).eval(), example), bits.per_channel).eval()

    def calibrate(self, model: nn.Module, images: Tensor, generator: torch.Generator) -> None:
        """Quantize on (N, C, H, W) normalised images, in place.

        Raises
        ------
        RequestError
            For weights that are not finite, with their name.
        Refused
            If the network cannot be exported to ONNX or not be quantized, with the reason: torch's, ONNX Runtime's,
            or the module at which NaN or infinity comes up.
        """
        check_images(images)
        assert isinstance(model, EngineNetwork)
        images, source = images.cpu(), model.source().cpu()
        _check_weights(source)
        with tempfile.TemporaryDirectory(prefix="evalsuite-") as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # both packages warn of their own internals
            exported, quantized = Path(folder) / "exported.onnx", Path(folder) / "quantized.onnx"
            _export(source, images[:1], exported)
            try:
                _quantize(exported, quantized, images, model.per_channel, self.reduce_range)
            except Exception as error:  # most of its checks are bare assertions
                reason = _where_not_finite(source, images) or f"ONNX Runtime cannot quantize it: {_first_line(error)}"
                raise Refused(reason) from error
            model.take(quantized.read_bytes())


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
    engine = ONNXRuntime.engine

    def __init__(self, source: nn.Module, per_channel: bool) -> None:
        super().__init__()
        self.per_channel = per_channel
        self.register_buffer("graph", torch.empty(0, dtype=torch.uint8))
        self._source: tuple[nn.Module, ...] = (source,)  # in a tuple, so that it is no part of the state
        self._session: tuple[int, Any] | None = None

    def source(self) -> nn.Module:
        """Return a private copy of the floating-point network. Raises RequestError once there is a graph."""
        if not self._source:
            raise RequestError("this network is quantized already: expected what insert returns")
        return copy.deepcopy(self._source[0])

    def take(self, graph: bytes) -> None:
        """Run this ONNX file from here on; the floating-point network is given up."""
        self.graph = torch.frombuffer(bytearray(graph), dtype=torch.uint8).to(self.graph.device)
        self._source, self._session = (), None

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Return the (N, classes) logits."""
        if self._source:
            logits: Tensor = self._source[0].to(images.device)(images)
            return logits
        threads = torch.get_num_threads()
        if self._session is None or self._session[0] != threads:
            self._session = threads, _session(self.graph.cpu().numpy().tobytes(), threads)
        found = self._session[1].run([_OUTPUT], {_INPUT: images.detach().float().cpu().contiguous().numpy()})[0]
        return torch.from_numpy(found).to(images.device)

    def __getstate__(self) -> dict[str, Any]:
        """Leave the running engine out of copies and pickles; each makes its own."""
        return {**self.__dict__, "_session": None}

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        given = state_dict.get(f"{prefix}graph")
        if isinstance(given, Tensor) and given.numel():
            self.graph = torch.empty_like(given, device=self.graph.device)  # graphs differ in length
            self._source, self._session = (), None
        super()._load_from_state_dict(state_dict, prefix, *args)

    def extra_repr(self) -> str:
        """Show the size of the graph."""
        return f"engine={self.engine}, graph={self.graph.numel()} bytes"


def _packages() -> tuple[Any, Any]:
    """Return ``onnxruntime`` and its ``quantization``."""
    needed = ("onnx", "onnxscript", "onnxruntime", "onnxruntime.quantization")
    *_, engine, quantization = (import_extra(name, "onnx", "quantizer 'onnxruntime'") for name in needed)
    return engine, quantization


def _refuse_policy(bits: BitPolicy, has_norms: bool) -> None:
    plain = BitPolicy(8, 8, 8, per_channel=bits.per_channel, symmetric=True, fold_norm=bits.fold_norm)
    wanted = {**plain.as_dict(), "fold_norm": has_norms or bits.fold_norm}
    different = [name for name, value in bits.as_dict().items() if value != wanted[name]]
    if different:
        names = ", ".join(f"{name} = {_toml(wanted[name])}" for name in different)
        raise Refused(f"onnxruntime runs W8A8 with symmetric weights and folded norms; expected {names}")


def _toml(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else "unset" if value in (None, {}) else str(value)


def _export(model: nn.Module, image: Tensor, file: Path) -> None:
    # Two images: of one, the exporter would take the batch's size for a constant.
    example = (torch.cat([image, image]),)
    try:
        torch.onnx.export(
            model,
            example,
            file,
            input_names=[_INPUT],
            output_names=[_OUTPUT],
            dynamo=True,
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            external_data=False,
            verbose=False,
        )
    except Exception as error:  # whatever the exporter makes of a network that it cannot trace
        raise Refused(f"{type(model).__name__} cannot be exported to ONNX: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _check_weights(model: nn.Module) -> None:
    for name, value in model.state_dict().items():
        if value.is_floating_point() and not value.isfinite().all():
            raise RequestError(f"{name} holds NaN or infinity: expected finite values")


@torch.no_grad()
def _where_not_finite(model: nn.Module, images: Tensor) -> str | None:
    """Say at which module NaN or infinity comes up first for any of the images, or return None."""
    found: list[str] = []

    def look(values: Any, where: str) -> None:
        leaves = [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]
        if not all(bool(leaf.isfinite().all()) for leaf in leaves):
            found.append(f"{where} for some calibration images: expected finite values")

    for name, module in model.named_modules():
        title = name or type(model).__name__
        module.register_forward_pre_hook(lambda _, args, title=title: look(args, f"NaN or infinity reaches {title}"))
        module.register_forward_hook(lambda _, __, out, title=title: look(out, f"{title} gives NaN or infinity"))
    for batch in batches(images):
        model(batch)
    return found[0] if found else None


def _quantize(exported: Path, quantized: Path, images: Tensor, per_channel: bool, reduce_range: bool) -> None:
    _, quantization = _packages()
    from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(quantization.CalibrationDataReader):  # type: ignore[name-defined, misc]
        def __init__(self) -> None:
            self.rest: Iterator[Tensor] = batches(images, _BATCH)

        def get_next(self) -> dict[str, Any] | None:
            batch = next(self.rest, None)
            return None if batch is None else {_INPUT: batch.numpy()}

    prepared = exported.with_name("prepared.onnx")
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


def _session(graph: bytes, threads: int) -> Any:
    """Start the engine. Raises RequestError if the graph is damaged."""
    onnxruntime, _ = _packages()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.use_deterministic_compute = True
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # idle threads leave the cores to others
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions have no common base of their own
        reason = str(error).splitlines()[0]
        raise RequestError(f"ONNX Runtime cannot read this network's graph, {len(graph)} bytes: {reason}") from error
