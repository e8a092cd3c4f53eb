"""One grid of 8-bit floats as ONNX says it, by onnx's reference evaluator and by engines, against the simulation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from evalsuite.engines import engine_named
from evalsuite.exporting.graph import OPSET, with_grids
from evalsuite.exporting.grids import FloatGrid
from evalsuite.number_formats import number_format
from evalsuite.quantization.grids.formats import decode
from evalsuite.quantization.grids.layers import FormatQuantizer

onnx = pytest.importorskip("onnx")
ReferenceEvaluator = pytest.importorskip("onnx.reference").ReferenceEvaluator

FORMATS = ["FP8", "FP8-E5M2"]


def one_grid(scale: float, name: str) -> bytes:
    """Return a graph with nothing but the nodes of one grid."""
    mark = onnx.helper.make_node("Grid", ["images"], ["marked"], domain="evalsuite")
    mark.attribute.append(onnx.helper.make_attribute("name", "x"))
    last = onnx.helper.make_node("Identity", ["marked"], ["logits"])
    taken, given_back = (
        onnx.helper.make_tensor_value_info(each, onnx.TensorProto.FLOAT, [None]) for each in ("images", "logits")
    )
    graph = onnx.helper.make_graph([mark, last], "one", [taken], [given_back])
    marked = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", OPSET)])
    grid = FloatGrid("x", np.float32(scale).reshape(()), number_format(name).element)
    return with_grids(marked.SerializeToString(), {"x": grid}).content


def by_onnx(values: np.ndarray, scale: float, name: str) -> np.ndarray:
    with np.errstate(all="ignore"):  # that what is far out becomes infinite before it saturates is no error
        (found,) = ReferenceEvaluator(onnx.load_from_string(one_grid(scale, name))).run(None, {"images": values})
    return np.asarray(found)


def by_simulation(values: np.ndarray, scale: float, name: str) -> np.ndarray:
    quantizer = FormatQuantizer(number_format(name))
    quantizer.scale.copy_(torch.tensor(scale))
    quantizer.switch(True)
    return quantizer(torch.from_numpy(values)).numpy()


def by_engine(engine: str, values: np.ndarray, scale: float, name: str) -> np.ndarray:
    return engine_named(engine).start(one_grid(scale, name))(torch.from_numpy(values)).numpy()


def check(found: np.ndarray, values: np.ndarray, scale: float, name: str) -> None:
    expected = by_simulation(values, scale, name)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, expected)  # NaN where NaN is
    numbers = ~np.isnan(expected)
    assert np.array_equal(np.signbit(found[numbers]), np.signbit(expected[numbers]))


@given(
    st.lists(st.floats(width=32), min_size=1, max_size=20),
    st.floats(2.0**-90, 2.0**90, width=32),
    st.sampled_from(FORMATS),
)
@settings(deadline=None, max_examples=60)
def test_any_values_at_any_scale(values, scale, name):
    given = np.array(values, np.float32)
    check(by_onnx(given, scale, name), given, scale, name)


def edges(name: str, scale: float) -> np.ndarray:
    """Return the points of a grid, ties, their neighbours, what lies beyond the greatest point, and one NaN."""
    element = number_format(name).element
    codes = torch.arange(128, dtype=torch.uint8)
    points = np.unique(decode(codes, element).numpy().astype(np.float64))
    points = points[points <= element.greatest]
    ties = ((points[1:] + points[:-1]) / 2).astype(np.float32)
    near = [np.nextafter(ties, np.float32(side)) for side in (np.inf, 0)]
    beyond = [element.greatest * factor for factor in (1.0, 1.03, 1.07, 1.2, 2, 1e30)]
    values = np.concatenate([points, ties, *near, beyond, [np.inf, 0.0, 1e-45]]).astype(np.float32)
    return np.float32(scale) * np.concatenate([values, -values, [np.float32(np.nan)]])


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("scale", [1.0, 0.37])
def test_ties_and_what_lies_beyond_the_greatest_value(name, scale):
    values, greatest = edges(name, scale), number_format(name).element.greatest
    found = by_onnx(values, scale, name)
    check(found, values, scale, name)
    assert np.nanmax(found) == -np.nanmin(found) == np.float32(greatest) * np.float32(scale)
    assert np.isnan(found).sum() == 1  # what was NaN; nothing that is far out became one


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("scale", [1.0, 0.37])
def test_onnxruntime_rounds_as_the_simulation(name, scale):
    pytest.importorskip("onnxruntime")
    values = edges(name, scale)
    check(by_engine("onnxruntime", values, scale, name), values, scale, name)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("scale", [1.0, 0.37])
def test_openvino_rounds_to_a_neighbour_or_refuses(name, scale):
    pytest.importorskip("openvino")
    generator, greatest = np.random.default_rng(0), number_format(name).element.greatest
    values = np.concatenate([generator.normal(0, size, 2000) for size in (1e-2, 1, 100, greatest)]).astype(np.float32)
    values *= np.float32(scale)
    expected = by_simulation(values, scale, name)
    refused = ""
    try:
        found = by_engine("openvino", values, scale, name)
    except RuntimeError as error:  # of releases that do not know the types
        refused = str(error)
    if refused:
        assert "QuantizeLinear" in refused
        return
    assert np.mean(found == expected) > 0.99
    points = np.unique(edges(name, scale)[:-1].clip(-greatest * scale, greatest * scale))
    points = np.unique(by_simulation(points, scale, name))
    places = [np.searchsorted(points, each) for each in (found, expected)]
    assert np.array_equal(points[places[0]], found)
    assert np.abs(places[0] - places[1]).max() <= 1
