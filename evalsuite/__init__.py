"""evalsuite: how reliable is a post-training-quantized vision network under shift?

Importing the package loads no backend; each name below is imported when first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import evalsuite.metrics as metrics
    import evalsuite.statistics as statistics
    from evalsuite.adaptation.adapted_model import adapt as adapt
    from evalsuite.corruptions import corrupt as corrupt
    from evalsuite.exporting.write import export as export
    from evalsuite.quantization.apply import quantize as quantize
    from evalsuite.running.harness import run as run
    from evalsuite.store import load as load

__version__ = "0.2.0"

_WHERE = {
    "adapt": "evalsuite.adaptation.adapted_model:adapt",
    "corrupt": "evalsuite.corruptions:corrupt",
    "export": "evalsuite.exporting.write:export",
    "load": "evalsuite.store:load",
    "metrics": "evalsuite.metrics",
    "quantize": "evalsuite.quantization.apply:quantize",
    "run": "evalsuite.running.harness:run",
    "statistics": "evalsuite.statistics",
}
__all__ = ["__version__", "adapt", "corrupt", "export", "load", "metrics", "quantize", "run", "statistics"]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'evalsuite' has no attribute {name!r}")
    module, _, attribute = _WHERE[name].partition(":")
    loaded = importlib.import_module(module)
    return getattr(loaded, attribute) if attribute else loaded


def __dir__() -> list[str]:
    return sorted([*globals(), *_WHERE])
