"""Contract checks for plugins, to be called from an author's tests.

``check_quantizer(Mine())`` raises AssertionError that lists every failed check with its mend; ``quantizer_checks``
returns them as values. The same of adapters, calibration steps, streams, tasks and figures.
"""

from evalsuite.testing._check import Check
from evalsuite.testing.adapters import adapter_checks, check_adapter
from evalsuite.testing.figures import check_figure, figure_checks
from evalsuite.testing.networks import network_checks
from evalsuite.testing.protocols import check_step, check_stream, step_checks, stream_checks
from evalsuite.testing.quantizers import check_quantizer, quantizer_checks
from evalsuite.testing.tasks import check_task, task_checks

__all__ = [
    "Check",
    "adapter_checks",
    "check_adapter",
    "check_figure",
    "check_quantizer",
    "check_step",
    "check_stream",
    "check_task",
    "figure_checks",
    "network_checks",
    "quantizer_checks",
    "step_checks",
    "stream_checks",
    "task_checks",
]
