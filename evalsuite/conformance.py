"""Whether a method keeps its contract, looked at before anything is measured with it.

The checks are those of :mod:`evalsuite.testing`. They run in a process of their own, so that a method that ends it,
hangs or takes all memory fails a check and nothing else.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from evalsuite import testing
from evalsuite.files import write_json
from evalsuite.registry import Setting
from evalsuite.running.workers import Limits, Workers
from evalsuite.running.workspace import Workspace
from evalsuite.testing import Check

FILE = "conformance.json"
"""In a run's folder: the checks of an audit's target."""

_ENDS = "its checks come to an end"


def conformance(target: Setting, limits: Limits | None = None) -> list[Check]:
    """Return the checks of a quantizer, which ``limits`` end where they take too long."""
    with tempfile.TemporaryDirectory() as folder:
        workspace = Workspace(Path(folder))
        with Workers(1, workspace, limits) as pool:
            ((_, failure),) = list(pool.run(_look, [[target]]))
        if failure is None:
            return [Check(**check) for check in json.loads((workspace.folder / FILE).read_text(encoding="utf-8"))]
    mend = "Call evalsuite.testing.quantizer_checks of it under a debugger."
    return [Check(_ENDS, "fail", failure.reason, mend, spoils_numbers=True)]


def write_conformance(folder: Path, checks: Sequence[Check]) -> None:
    """Write ``conformance.json``."""
    write_json(folder / FILE, [asdict(check) for check in checks])


def spoiling(checks: Sequence[Check]) -> list[Check]:
    """Return the failed checks that make numbers measured with the method wrong."""
    return [check for check in checks if check.outcome == "fail" and check.spoils_numbers]


def _look(target: Setting, workspace: Workspace, kept: dict[str, Any]) -> None:
    write_conformance(workspace.folder, testing.quantizer_checks(target.build()))
