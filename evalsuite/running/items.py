"""What the log says of the items of a stage."""

from __future__ import annotations

from functools import singledispatch
from typing import Any

from evalsuite.isolation import printable
from evalsuite.running.domain_images import DomainImages
from evalsuite.study.trials import Trial

_LONGEST = 200  # characters


@singledispatch
def facts_of(item: object) -> dict[str, Any]:
    """Return which trial and which quantized model an item is of, and what it is in words."""
    return {"what": printable(type(item).__name__, _LONGEST)}


@facts_of.register
def _(item: Trial) -> dict[str, Any]:
    bits = str(item.quantizer.bits or "FP32")
    names = (
        item.task.name,
        item.quantizer.method.name,
        bits + item.quantizer.on_engine,
        item.adapter.name,
        item.stream.name,
        f"seed {item.seed}",
    )
    return {"trial": item.identity, "model": item.quantization, "what": printable(" ".join(names), _LONGEST)}


@facts_of.register
def _(item: DomainImages) -> dict[str, Any]:
    return {"images": item.key, "what": printable(f"{item.task.name} {item.domain}", _LONGEST)}
