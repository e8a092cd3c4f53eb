"""Importing torchvision beside a torch for which its compiled operators were not built.

PyPI's torchvision wheel is built for PyPI's CUDA torch. Beside a CPU build of torch its library does not load, and
``import torchvision`` stops where it attaches shape functions to operators that are therefore missing. Only the
detection operators live in that library: models for classification, transforms and data sets work without it once
the names exist.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
import threading
from pathlib import Path
from types import ModuleType

import torch

_LOCK = threading.Lock()
_MISSING = re.compile(r"operator torchvision::\w+ does not exist")
_NEEDED = re.compile(r"""register_fake\(\s*["'](torchvision::\w+)["']""")


def import_torchvision() -> ModuleType:
    """Import torchvision, and let every later ``import torchvision`` or ``import timm`` succeed.

    Where torchvision imports by itself nothing else happens. Where it fails for want of its compiled operators,
    their names are declared to torch without an implementation, and it is imported again; calling such an
    operator (say ``torchvision.ops.nms``) then raises torchvision's own explanation. A failure leaves nothing of
    torchvision in ``sys.modules``.

    Raises
    ------
    ImportError
        If torchvision is not installed.
    RuntimeError
        If it fails for another reason.
    """
    with _LOCK:
        try:
            return _import()
        except RuntimeError as error:
            if not _MISSING.search(str(error)):
                raise
        for operator in _needed_operators():
            # Any arguments, any results: torchvision checks for its library before it calls one.
            torch.library.define(operator, "(...) -> ...")
        return _import()


def _import() -> ModuleType:
    try:
        return importlib.import_module("torchvision")
    except BaseException:
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        raise


def _needed_operators() -> list[str]:
    """Find the operators for which the installed torchvision registers shape functions without asking."""
    spec = importlib.util.find_spec("torchvision")
    folders = (spec.submodule_search_locations if spec else None) or []
    sources = [file.read_text(encoding="utf-8") for folder in folders for file in sorted(Path(folder).glob("*.py"))]
    return sorted({name for source in sources for name in _NEEDED.findall(source)})
