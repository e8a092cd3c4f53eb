"""Learnt scales on engines: a quantized network exported, and what ONNX Runtime and OpenVINO make of it.

python benchmarks/engines.py [--data-root DIR] [--cases TASK=METHOD:BITS ...] [--engines NAME ...] [--images N]

Of each network, on the same test images: how often simulation and engine name the same class (bar: 99 %), both
accuracies, the engine's time over the simulation's (medians over batches that both are shown in turn), and how many of
the network's convolutions and products the engine computes in integers. Where they agree less often, the first grid at
which their integers differ, the one with most, and how many of them; and how often the simulation agrees with itself in
float64: what sums rounded otherwise do to this network, no engine can be blamed for. Weights are symmetric and norms
folded, as integer kernels want them. ``--engines onnxruntime onnxruntime_defaults openvino openvino_defaults`` shows
what the processor at hand loses by itself.
"""

from __future__ import annotations

import argparse
import collections
import copy
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from report import Figure, main, note
from torch import Tensor, nn

from evalsuite import quantize
from evalsuite.engines import engine_named
from evalsuite.execution import hooked
from evalsuite.exporting.graph import Exported, exported
from evalsuite.quantization.grids.layers import QuantLayer, QuantMatMul
from evalsuite.quantizers._onnx_engine import Graph, session_options
from evalsuite.running.task_data import normalise, task_data, task_model

CASES = (
    "cifar10/resnet20=rtn:W8A8",
    "cifar10/resnet20=brecq:W8A8",
    "cifar10/resnet20=rtn:W4A8",
    "cifar10/resnet20=brecq:W4A8",
    "imagenet/mobilenet_v2=rtn:W8A8",
    "imagenet/mobilenet_v2=brecq:W8A8",
    "imagenet/deit_tiny=rtn:W8A8",
    "imagenet/deit_tiny=brecq:W8A8",
)
ENGINES = ("onnxruntime", "openvino")
IMAGES, CALIBRATION, BATCH, THREADS = 320, 64, 32, 2
ITERATIONS = 20
"""Of learning: enough that what is exported was learnt, few enough to wait for."""
AGREE = 99.0
_LOOKED_AT = 32  # images of which integers are compared


def measure(
    data_root: str | None,
    cases: Sequence[str] = CASES,
    engines: Sequence[str] = ENGINES,
    images: int = IMAGES,
    calibration: int = CALIBRATION,
    threads: int = THREADS,
    asymmetric: bool = False,
) -> list[Figure]:
    torch.set_num_threads(threads)
    policy = {"symmetric": not asymmetric, "fold_norm": not asymmetric}
    found = []
    for case in cases:
        task, _, method = case.partition("=")
        found += compare(task, method, engines, data_root, (images, calibration), policy)
    return found


def compare(
    task: str,
    method: str,
    engines: Sequence[str],
    data_root: str | None,
    sizes: tuple[int, int],
    policy: dict[str, Any],
) -> list[Figure]:
    data, (count, calibration) = task_data(task, data_root), sizes
    images = normalise(data.test_images[:count], data)
    labels = torch.from_numpy(data.test_labels[: len(images)].copy())
    name, _, bits = method.partition(":")
    learnt = {"iterations": ITERATIONS} if name == "brecq" else {}
    chosen = normalise(data.pool_images[:calibration], data)
    network = quantize(task_model(task, data_root), chosen, method=name, bits=bits, **policy, **learnt)
    graph = exported(network, images[:1])
    products = sum(isinstance(module, (QuantLayer, QuantMatMul)) for module in network.modules())
    figures = []
    for engine in engines:
        title = f"{task} {method} on {engine}, {len(images)} images"
        try:
            run = engine_named(engine).start(graph.content)
            ours, theirs, ratio = side_by_side(network, run, images)
        except Exception as error:  # each engine has its own
            note(f"{title}: {' '.join(str(error).split())[:400]}")
            figures.append(Figure(f"{title}: agree", None, "%", at_least=AGREE, note="cannot be run"))
            continue
        agree = 100 * float((ours == theirs).float().mean())
        why = "" if agree >= AGREE else first_difference(network, graph, engine, images[:_LOOKED_AT])
        if why:
            itself = 100 * float((ours == in_double(network, images)).float().mean())
            why += f"; the simulation in float64 agrees with itself in {itself:.4g} %"
        integers = integer_kernels(run)
        figures += [
            Figure(f"{title}: agree", agree, "%", at_least=AGREE, note=why),
            Figure(f"{title}: simulated accuracy", 100 * float((ours == labels).float().mean()), "%"),
            Figure(f"{title}: accuracy", 100 * float((theirs == labels).float().mean()), "%"),
            Figure(
                f"{title}: time, engine / simulated", ratio, note=f"batch {BATCH}, {torch.get_num_threads()} threads"
            ),
            Figure(f"{title}: in integers, of {products} layers and products", integers),
        ]
        for figure in figures[-5:]:
            note(f"{figure.name} {figure.value:.4g} {figure.unit} {figure.note}")
    return figures


@torch.inference_mode()
def side_by_side(network: nn.Module, run: Callable[[Tensor], Tensor], images: Tensor) -> tuple[Tensor, Tensor, float]:
    """Return the classes that both name, and the median over batches of the engine's time over the simulation's."""
    ours, theirs, ratios = [], [], []
    for batch in images.split(BATCH):
        start = time.perf_counter()
        ours.append(network(batch).argmax(1))
        middle = time.perf_counter()
        theirs.append(run(batch).argmax(1))
        ratios.append((time.perf_counter() - middle) / (middle - start))
    return torch.cat(ours), torch.cat(theirs), statistics.median(ratios[1:] or ratios)


@torch.inference_mode()
def in_double(network: nn.Module, images: Tensor) -> Tensor:
    """Return the classes that the simulation names where it computes in float64."""
    double = copy.deepcopy(network).double()
    return torch.cat([double(batch.double()).argmax(1) for batch in images.split(BATCH)])


@torch.no_grad()
def first_difference(network: nn.Module, graph: Exported, engine: str, images: Tensor) -> str:
    """Say at which grid, in order of execution, the integers of simulation and engine first differ, and in how many.

    The engine is asked for each grid's values, which may keep it from fusing what it fuses otherwise.
    """
    import onnx

    simulated: dict[str, Tensor] = {}
    names = [name for name, grid in graph.grids.items() if grid.codes is None]

    def keep(name: str) -> Callable[..., None]:
        return lambda module, args, out: simulated.update({name: out.clone()})

    with hooked(network.get_submodule(name).register_forward_hook(keep(name)) for name in names):
        network(images)
    model = onnx.load_from_string(graph.content)
    ordered = [out for node in model.graph.node for out in node.output if out in names]
    for name in ordered:
        model.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    found = outputs_of(engine_named(engine).start(model.SerializeToString()), images.numpy())
    shares = []
    for name, values in zip(ordered, found[1:], strict=True):
        steps = np.abs(values - simulated[name].numpy().reshape(values.shape)) / graph.grids[name].scale
        shares.append((name, float(np.mean(steps > 0.5)), float(steps.max())))
    first = next((each for each in shares if each[1] > 0), ("none", 0.0, 0.0))
    most = max(shares, key=lambda each: each[1])
    said = [
        f"{what} at {name}: {100 * share:.3g} % of its integers, by {steps:.0f} steps at most"
        for what, (name, share, steps) in (("first", first), ("most", most))
    ]
    return "; ".join(said)


def outputs_of(running: Any, images: Any) -> list[Any]:
    """Return all that a graph on an engine gives for (N, C, H, W) normalised images."""
    if isinstance(running, Graph):
        session = running.session
        return list(session.run(None, {session.get_inputs()[0].name: images}))
    found = running.compiled([images])
    return [found[number] for number in range(len(running.compiled.outputs))]


def integer_kernels(running: Any) -> int:
    """Count the convolutions and products that an engine computes in integers."""
    return _onnxruntime_kernels(running) if isinstance(running, Graph) else _openvino_kernels(running)


def _onnxruntime_kernels(running: Graph) -> int:
    """Count the integer kernels of the graph that ONNX Runtime makes of another."""
    import onnx
    import onnxruntime

    content = running.content
    options = session_options(content, torch.get_num_threads(), running.saturate)
    with tempfile.TemporaryDirectory() as folder:
        options.optimized_model_filepath = str(Path(folder) / "optimized.onnx")
        onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        kinds = collections.Counter(node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node)
    whole = ("QLinearConv", "QLinearMatMul", "QGemm", "MatMulIntegerToFloat", "MatMulInteger", "ConvInteger")
    return sum(kinds[kind] for kind in whole)


def _openvino_kernels(running: Any) -> int:
    nodes = [operation.get_rt_info() for operation in running.compiled.get_runtime_model().get_ordered_ops()]
    facts = [(each["layerType"].value, each["primitiveType"].value) for each in nodes]
    return sum(kind in ("Convolution", "FullyConnected", "MatMul") and what.endswith("I8") for kind, what in facts)


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--cases", nargs="+", default=CASES, metavar="TASK=METHOD:BITS")
    parser.add_argument("--engines", nargs="+", default=ENGINES, metavar="NAME")
    parser.add_argument("--images", type=int, default=IMAGES)
    parser.add_argument("--calibration", type=int, default=CALIBRATION)
    parser.add_argument("--threads", type=int, default=THREADS)
    parser.add_argument("--asymmetric", action="store_true", help="weights asymmetric, norms not folded: our defaults")


if __name__ == "__main__":
    main(measure, __doc__, options)
