import gc
import os
import random
import signal
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from evalsuite import hashing
from evalsuite.running.process_state import restored


def _hook():
    torch.nn.modules.module.register_module_forward_hook(lambda module, inputs, output: output * 0)


def _close():
    os.close(1)
    os.close(2)


CHANGES = {
    "folder": (os.getcwd, lambda: os.chdir("/")),
    "environment": (
        lambda: dict(os.environ),
        lambda: (os.environ.update(A_NEW_ONE="1", HOME="x"), os.environ.pop("PATH")),
    ),
    "gradients": (torch.is_grad_enabled, lambda: torch.set_grad_enabled(False)),
    "dtype": (torch.get_default_dtype, lambda: torch.set_default_dtype(torch.float64)),
    "threads": (torch.get_num_threads, lambda: torch.set_num_threads(3)),
    "determinism": (
        torch.are_deterministic_algorithms_enabled,
        lambda: torch.use_deterministic_algorithms(True, warn_only=True),
    ),
    "precision": (torch.get_float32_matmul_precision, lambda: torch.set_float32_matmul_precision("medium")),
    "autocast": (lambda: torch.is_autocast_enabled("cpu"), lambda: torch.set_autocast_enabled("cpu", True)),
    "device": (torch.get_default_device, lambda: torch.set_default_device("meta")),
    "mkldnn": (lambda: torch.backends.mkldnn.enabled, lambda: setattr(torch.backends.mkldnn, "enabled", False)),
    "random": (random.getstate, lambda: random.seed(5)),
    "numpy": (lambda: np.random.get_state()[1].tolist(), lambda: np.random.seed(5)),  # noqa: NPY002
    "torch": (lambda: torch.get_rng_state().tolist(), lambda: torch.manual_seed(5)),
    "filters": (lambda: list(warnings.filters), lambda: warnings.simplefilter("error")),
    "numpy's errors": (np.geterr, lambda: np.seterr(all="raise")),
    "recursion": (sys.getrecursionlimit, lambda: sys.setrecursionlimit(5000)),
    "garbage": (gc.isenabled, gc.disable),
    "output": (lambda: sys.stdout, lambda: setattr(sys, "stdout", None)),
    "streams": (lambda: [os.fstat(number).st_ino for number in (0, 1, 2)], _close),
    "signals": (lambda: signal.getsignal(signal.SIGTERM), lambda: signal.signal(signal.SIGTERM, signal.SIG_IGN)),
    "timer": (lambda: signal.getitimer(signal.ITIMER_REAL)[0] > 0, lambda: signal.setitimer(signal.ITIMER_REAL, 1000)),
    "hooks": (lambda: len(torch.nn.modules.module._global_forward_hooks), _hook),
    "function of torch": (lambda: torch.nn.functional.relu, lambda: setattr(torch.nn.functional, "relu", abs)),
    "method of torch": (lambda: torch.nn.Linear.forward, lambda: setattr(torch.nn.Linear, "forward", abs)),
    "method of every tensor": (lambda: torch.Tensor.backward, lambda: setattr(torch.Tensor, "backward", abs)),
    "function of numpy": (lambda: np.mean, lambda: setattr(np, "mean", abs)),
    "function of ours": (lambda: hashing.digest, lambda: setattr(hashing, "digest", abs)),
    "deleted": (lambda: hasattr(hashing, "digest"), lambda: delattr(hashing, "digest")),
    "clock": (lambda: time.perf_counter, lambda: setattr(time, "perf_counter", abs)),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_trials_share_is_put_back(name):
    read, change = CHANGES[name]
    before = read()
    try:
        with restored():
            change()
            if name != "streams":
                assert read() != before
    except BaseException:
        pytest.fail("what was changed kept the context from ending")
    assert read() == before


def test_put_back_after_an_error_as_well():
    def act():
        with restored():
            torch.set_default_dtype(torch.float64)
            raise SystemExit

    with pytest.raises(SystemExit):
        act()
    assert torch.get_default_dtype() == torch.float32


def test_global_generators_begin_alike_where_a_seed_is_given():
    drawn = []
    for _ in range(2):
        with restored(3):
            drawn.append(_drawn())
    with restored(4):
        assert not set(_drawn()) & set(drawn[0])
    assert drawn[0] == drawn[1]


def _drawn():
    return random.random(), np.random.rand(), torch.rand(1).item()  # noqa: NPY002


def test_file_handles_do_not_pile_up():
    with restored():
        pass
    before = len(list(Path("/dev/fd").iterdir()))
    for _ in range(3):
        with restored():
            pass
    assert len(list(Path("/dev/fd").iterdir())) == before
