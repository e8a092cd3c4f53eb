"""Adapters that misbehave beside honest ones: what does each cost, and does the rest of the run notice?

python benchmarks/hostile.py [--workers N] [--modes NAME,...]

A run with every mode beside three honest adapters, and a quiet one with these alone. Prints a line a mode; the exit
status is 1 unless the run ends by itself with status 1, each mode that must fail has failed with a reason of one short
line, the others are done, and the records of honest trials equal the quiet run's to the last bit. Memory is limited to
3 GiB a process and a trial to 240 s.
"""

from __future__ import annotations

import argparse
import copy
import ctypes
import gc
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

MEMORY = 3 * 2**30
TIME_LIMIT = 240
HERE = Path(__file__).resolve()


class Speechless(Exception):
    """An error that cannot be printed."""

    def __str__(self) -> str:
        raise KeyError("speechless")


class Foreign(BaseException):
    """Not an Exception."""


def _raising(error: BaseException | type[BaseException]) -> Callable[[], None]:
    def act() -> None:
        raise error

    return act


def _recurse() -> None:
    _recurse()


def _hoard() -> None:
    hoard = []
    while True:
        hoard.append(bytearray(b"x") * 2**26)


def _global_hook() -> None:
    nn.modules.module.register_module_forward_hook(lambda module, inputs, output: output * 0)


def _replace_functions() -> None:
    nn.functional.relu = nn.functional.conv2d = nn.Linear.forward = lambda *a, **b: torch.zeros(1)
    torch.log_softmax = np.mean = np.concatenate = np.savez = lambda *a, **b: None
    time.perf_counter = lambda: -1.0


def _write_labels() -> None:
    """Write into every array of labels that can be reached."""
    from evalsuite.plugins import TaskData

    for data in [thing for thing in gc.get_objects() if isinstance(thing, TaskData)]:
        for array in (data.test_labels, data.test_images, data.pool_labels, data.pool_images):
            array[...] = 0


def _settings() -> None:
    torch.use_deterministic_algorithms(True)
    torch.set_anomaly_enabled(True)
    torch.set_float32_matmul_precision("medium")
    torch.set_autocast_enabled("cpu", True)
    torch.backends.mkldnn.enabled = False
    sys.setrecursionlimit(100)
    np.seterr(all="raise")
    gc.disable()


HARMLESS: dict[str, Callable[[], Any]] = {
    "nothing": lambda: None,
    "no_gradients": lambda: torch.set_grad_enabled(False),
    "seeds": lambda: (torch.manual_seed(7), np.random.seed(7), random.seed(7)),  # noqa: NPY002
    "threads_of_torch": lambda: torch.set_num_threads(3),
    "variables": lambda: os.environ.update(EVALSUITE_CACHE="/nowhere", OMP_NUM_THREADS="0"),
    "folder": lambda: os.chdir("/"),
    "noise": lambda: print("\x1b[2J noise"),
}
"""What costs nothing: the trial is done, and others do not notice."""
MAY_FAIL: dict[str, Callable[[], Any]] = {
    "double": lambda: torch.set_default_dtype(torch.float64),
    "strict_warnings": lambda: warnings.simplefilter("error"),
    "settings": _settings,
    "hook": _global_hook,
    "patches": _replace_functions,
}
"""What may harm its own trial."""
FAILING: dict[str, Callable[[], Any]] = {
    "labels": _write_labels,
    "exit_0": lambda: sys.exit(0),
    "exit_7": _raising(SystemExit(7)),
    "interrupt": _raising(KeyboardInterrupt),
    "generator_exit": _raising(GeneratorExit),
    "foreign": _raising(Foreign("not an Exception")),
    "speechless": _raising(Speechless()),
    "surrogate": _raising(ValueError("<b>&amp; \\input{x} \u202egnp.exe \ud800 \x00 \n % $")),
    "long": _raising(ValueError("long " * 2_000_000)),
    "recursion": _recurse,
    "hoard": _hoard,
    "hard_exit": lambda: os._exit(3),
    "hard_exit_0": lambda: os._exit(0),
    "segfault": lambda: ctypes.string_at(0),
    "bus": lambda: os.kill(os.getpid(), signal.SIGBUS),
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "stop": lambda: os.kill(os.getpid(), signal.SIGSTOP),
    "sleep": lambda: time.sleep(10**6),
    "thread": lambda: threading.Thread(target=time.sleep, args=(10**6,)).start(),
    "fork": os.fork,
    "forked_sleeper": lambda: os.fork() or time.sleep(10**6),
    "closed": lambda: (os.close(1), os.close(2)),
    "all_closed": lambda: os.closerange(0, 256),
    "question": lambda: input("and? "),
}
"""What must fail its own trial."""
OUTPUTS: dict[str, Callable[[Tensor], Any]] = {
    "nan": lambda logits: logits / 0 - logits / 0,
    "row_missing": lambda logits: logits[1:],
    "two_classes": lambda logits: logits[:, :2],
    "listed": lambda logits: logits.tolist(),
    "complex": lambda logits: torch.complex(logits, logits),
    "nothing_returned": lambda logits: None,
}
"""What must fail its own trial by its logits."""
MODES = [*HARMLESS, *MAY_FAIL, *FAILING, *OUTPUTS]


@dataclass(frozen=True)
class Hostile:
    """Misbehaves in its first and every further step, or while it is prepared."""

    mode: str
    early: bool = False

    def prepare(self, model: nn.Module, source: Tensor, generator: torch.Generator) -> nn.Module:
        """Misbehave where ``early``."""
        if self.early:
            self._act()
        return copy.deepcopy(model)

    def step(self, state: nn.Module, images: Tensor) -> Any:
        """Misbehave, then give the logits that the mode asks for."""
        if not self.early:
            self._act()
        with torch.no_grad():
            return OUTPUTS.get(self.mode, lambda logits: logits)(state(images))

    def _act(self) -> None:
        (HARMLESS | MAY_FAIL | FAILING).get(self.mode, lambda: None)()


def study(name: str, modes: list[str]) -> str:
    hostile = f'[[adapter]]\nmethod = "{HERE}:Hostile"\nmode = {modes}\n' if modes else ""
    return f"""
name = "{name}"
tasks = ["digits/resnet"]
source_images = 32
[analysis]
permutations = 20
bootstrap = 20
[gate]
points = 0
[[calibration]]
protocol = "calibration"
size = 32
[[quantizer]]
method = "rtn"
bits = "W8A8"
[[adapter]]
method = "bn_adapt"
{hostile}
[[adapter]]
method = ["none", "tent"]
[[stream]]
protocol = "continual"
images = 60
batch_size = 20
corruptions = ["contrast", "clean"]
"""


def run(folder: Path, name: str, modes: list[str], workers: int, timeout: float) -> tuple[int, float]:
    """Run a study by the command line; return its status, -1 if it did not end, and its seconds."""
    file = folder / f"{name}.toml"
    file.write_text(study(name, modes), encoding="utf-8")
    command = [sys.executable, "-m", "evalsuite", "run", str(file), "--out", str(folder / name), "--device", "cpu"]
    command += ["--workers", str(workers), "--time-limit", str(TIME_LIMIT)]

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))

    start = time.perf_counter()
    try:
        done = subprocess.run(command, timeout=timeout, check=False, preexec_fn=limit)
    except subprocess.TimeoutExpired:
        return -1, time.perf_counter() - start
    return done.returncode, time.perf_counter() - start


def judge(quiet: Path, loud: Path) -> list[str]:
    """Return what is wrong with a run, comparing it with a quiet one; prints a line a hostile trial."""
    from evalsuite.store import load

    before, after = load(quiet), load(loud)
    wrong = []
    for row in after.trials.itertuples():
        if "Hostile" not in row.adapter:
            continue
        mode = after.trials.loc[row.Index, "adapter.mode"]
        print(f"{mode:>18} {row.status:>7} {row.reason[:150]}")
        if row.status == "done" and mode in {**FAILING, **OUTPUTS}:
            wrong.append(f"{mode}: done")
        if row.status != "done" and mode in HARMLESS:
            wrong.append(f"{mode}: {row.status}")
        if len(row.reason) > 1200 or not row.reason.isprintable() or (row.status != "done" and not row.reason):
            wrong.append(f"{mode}: a reason of {len(row.reason)} characters")
    wrong += [
        f"the records of honest trial {trial} differ"
        for trial in before.trials["trial"]
        if not before.records_of(trial).equals(after.records_of(trial))
    ]
    if len(after.trials) != after.study["trials"]:
        wrong.append(f"{len(after.trials)} rows of {after.study['trials']}")
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--modes", default=",".join(MODES), help="by default all")
    parser.add_argument("--timeout", type=float, default=3600, help="seconds for the whole run")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        quiet, _ = run(folder, "quiet", [], 1, arguments.timeout)
        status, seconds = run(folder, "loud", arguments.modes.split(","), arguments.workers, arguments.timeout)
        wrong = judge(folder / "quiet", folder / "loud") if status >= 0 else []
        if quiet != 0 or status != 1:
            wrong.append(f"status {quiet} of the quiet run, {status} of the other: expected 0 and 1")
    print(f"{arguments.workers} workers, {seconds:.0f} s: {'; '.join(wrong) or 'each cost its own trial'}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
