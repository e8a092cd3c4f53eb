"""Whether a method keeps its contract, looked at before anything is measured with it.

The checks are those of :mod:`evalsuite.testing`. They run in a process of their own, so that a method that ends it,
hangs or takes all memory fails a check and nothing else.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from evalsuite import testing
from evalsuite.bits import BitPolicy
from evalsuite.files import write_json
from evalsuite.registry import Setting
from evalsuite.running.task_data import normalise, task_data, task_model
from evalsuite.running.workers import Limits, Workers
from evalsuite.running.workspace import Workspace
from evalsuite.testing import Check

FILE = "conformance.json"
"""In which a process hands over the checks that it made."""

_IMAGES = 12  # of a task's pool, that a network is checked on; ours
_ENDS = "its checks come to an end"


@dataclass(frozen=True)
class Asked:
    """What is to be checked.

    Attributes
    ----------
    target : the quantizer.
    task : where the target stands for a network that was handed in: the task whose images it takes.
    root : folder with the task's images and weights.
    bits : those that such a network is measured at.
    """

    target: Setting
    task: Setting | None = None
    root: str | None = None
    bits: BitPolicy = field(default_factory=BitPolicy)


def conformance(target: Setting | Asked, limits: Limits | None = None) -> list[Check]:
    """Return the checks of a quantizer, which ``limits`` end where they take too long."""
    asked = target if isinstance(target, Asked) else Asked(target)
    with tempfile.TemporaryDirectory() as folder:
        workspace = Workspace(Path(folder))
        with Workers(1, workspace, limits) as pool:
            ((_, failure),) = list(pool.run(_look, [[asked]]))
        if failure is None:
            return [Check(**check) for check in json.loads((workspace.folder / FILE).read_text(encoding="utf-8"))]
    mend = "Call evalsuite.testing's checks of it under a debugger."
    return [Check(_ENDS, "fail", failure.reason, mend, spoils_numbers=True)]


def write_conformance(folder: Path, checks: Sequence[Check]) -> None:
    """Write ``conformance.json``."""
    write_json(folder / FILE, [asdict(check) for check in checks])


def spoiling(checks: Sequence[Check]) -> list[Check]:
    """Return the failed checks that make numbers measured with the method wrong."""
    return [check for check in checks if check.outcome == "fail" and check.spoils_numbers]


def _look(asked: Asked, workspace: Workspace, kept: dict[str, Any]) -> None:
    plugin = asked.target.build()
    if asked.task is None:
        checks = testing.quantizer_checks(plugin)
    else:
        data = task_data(asked.task, asked.root)
        images = normalise(data.pool_images[:_IMAGES], data)
        model = task_model(asked.task, asked.root)
        checks = testing.network_checks(plugin, model=model, images=images, bits=asked.bits)
    write_conformance(workspace.folder, checks)
