"""What this machine has: versions, devices, data, and how to mend what is broken."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from evalsuite import registry
from evalsuite.engines import ENGINES, package_of
from evalsuite.environment import OWN_PACKAGES, available_cores, device_name, hiding, resolve_device, versions
from evalsuite.errors import RequestError
from evalsuite.optional_members import availability_of


@dataclass(frozen=True)
class Check:
    """One thing looked at. ``needed``: evalsuite does not work without it."""

    name: str
    ok: bool
    found: str
    remedy: str = ""
    needed: bool = True


def examine(data_root: str | None = None) -> list[Check]:
    """Look at versions, devices, libraries that need help, plugins and data."""
    root = data_root or os.environ.get("EVALSUITE_DATA")
    checks = [Check("versions", True, ", ".join(f"{name} {version}" for name, version in versions().items()))]
    checks += [
        Check(name, False, f"{place} hides evalsuite's own", "rename it, or work elsewhere")
        for name, place in _hidden()
    ]
    checks.append(_device())
    checks.append(_try("torchvision", _torchvision, "install the torchvision release that matches torch"))
    checks.append(_try("imagecorruptions", _imagecorruptions, "pip install imagecorruptions==1.1.2"))
    checks += [_engine(name) for name in ENGINES[1:]]
    checks += [_plugins(kind) for kind in registry.KINDS]
    checks += [_task(name, root) for name in registry.names("tasks")]
    return checks


def together(checks: Sequence[Check]) -> list[Check]:
    """Put what is missing for the same reason into one check, where the first of it stands."""
    found: dict[object, Check] = {}
    for place, check in enumerate(checks):
        key = place if check.ok else (check.needed, check.found, check.remedy)
        first = found.get(key)
        found[key] = check if first is None else replace(first, name=f"{first.name}, {check.name}")
    return list(found.values())


def _hidden() -> list[tuple[str, Path]]:
    return [(name, place) for name in OWN_PACKAGES if (place := hiding(name)) is not None]


def _device() -> Check:
    device = resolve_device("auto")
    cores = f"{available_cores()} cores"
    return Check("device", True, cores if device == "cpu" else f"{cores}, {device_name(device)}")


def _try(name: str, action: Callable[[], str], remedy: str) -> Check:
    try:
        return Check(name, True, action())
    except Exception as error:  # whatever is broken there is what the user wants to read
        return Check(name, False, f"{type(error).__name__}: {' '.join(str(error).split())}", remedy)


def _torchvision() -> str:
    from evalsuite.torchvision_compat import import_torchvision

    return f"{import_torchvision().__version__} imports"


def _imagecorruptions() -> str:
    import numpy as np

    from evalsuite.corruptions import COMMON, HELD_OUT, corrupt

    image = np.full((1, 32, 32, 3), 128, np.uint8)
    for name in COMMON + HELD_OUT:
        corrupt(image, name, 1)
    return f"{len(COMMON + HELD_OUT)} corruptions run"


def _engine(name: str) -> Check:
    package = package_of(name)
    if importlib.util.find_spec(package) is None:
        return Check(f"engine {name}", False, "not installed", "pip install 'evalsuite[onnx,openvino]'", needed=False)
    return Check(f"engine {name}", True, f"{package} {importlib.metadata.version(package)}")


def _plugins(kind: registry.Kind) -> Check:
    broken = []
    for name in registry.names(kind):
        try:
            registry.load(kind, name)
        except RequestError as error:
            broken.append(str(error))
    found = ", ".join(registry.names(kind)) or "none"
    return Check(kind, not broken, "; ".join(broken) or found, "reinstall evalsuite: make setup" if broken else "")


def _task(name: str, root: str | None) -> Check:
    try:
        required = registry.required_options("tasks", name)
        if required:
            return Check(name, True, f"usable with its options {' and '.join(required)}, given in a study's [[task]]")
        found = _found(registry.load("tasks", name)(), root)
    except RequestError as error:
        remedy = "give the folder by --data-root or EVALSUITE_DATA" if root is None else "put the file there"
        return Check(name, False, str(error), remedy, needed=False)
    return Check(name, True, found)


def _found(task: Any, root: str | None) -> str:
    availability = availability_of(task)
    if availability is not None:
        return str(availability(root))
    data = task.data(root)
    task.model(root)
    return f"{len(data.test_images)} test images, {len(data.pool_images)} to calibrate with"
