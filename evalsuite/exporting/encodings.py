"""The grids of an exported graph as JSON, in the schema of AIMET's encodings.

Version 2.0.0, whose fields are the inputs and attributes of ONNX's QuantizeLinear, see
https://quic.github.io/aimet-pages/releases/latest/techniques/encoding_spec.html
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evalsuite.exporting.grids import Grid

VERSION = "2.0.0"


def encodings(grids: Mapping[str, Grid]) -> dict[str, Any]:
    """Return grids, by the name of the tensor in the graph, as the content of an encodings file.

    ``output_dtype`` is the type of the graph's integers, which a grid of 3 or of 5 to 7 bits does not use up, or of its
    8-bit floats (``float8e4m3fn``, ``float8e5m2``: AIMET's own names), whose zero point is 0.
    """
    return {"version": VERSION, "encodings": [_encoding(name, grid) for name, grid in grids.items()]}


def _encoding(name: str, grid: Grid) -> dict[str, Any]:
    found = {
        "name": name,
        "output_dtype": grid.type,
        "y_scale": grid.scale.tolist(),
        "y_zero_point": grid.zero_point.tolist(),
    }
    return found if grid.axis is None else found | {"axis": grid.axis}
