"""What trials share through their process: saved before one begins and put back when it ends, whatever it did.

Covered: working folder, environment, standard streams, warning filters, random states, torch's and numpy's settings,
global module hooks, signal handlers and timers, functions and methods of the modules in ``_PATCHED``. Not covered: what
is imported, constants and containers inside modules, ``sys.path``, resource limits, native code, files, and private
state of libraries.
"""

from __future__ import annotations

import functools
import gc
import itertools
import operator
import os
import random
import signal
import sys
import threading
import types
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import numpy as np
import torch

Restore = Callable[[], None]

# Modules whose functions, and whose classes' methods, a plugin may replace for itself but not for others.
_PATCHED = (
    *("builtins", "io", "json", "math", "os", "pathlib", "random", "time", "numpy", "numpy.random"),
    *("torch", "torch.autograd", "torch.nn.functional", "torch.nn.init", "torch.optim", "torch.utils.data"),
    *("evalsuite", "protocols", "torch.nn.modules"),  # and what is in them
)
_PACKAGES = tuple(f"{name}." for name in _PATCHED[-3:])
_DESCRIPTORS = (staticmethod, classmethod, property)
_SETTINGS: tuple[tuple[Callable[[], Any], Callable[[Any], Any]], ...] = (
    (torch.is_grad_enabled, torch.set_grad_enabled),
    (torch.get_default_dtype, torch.set_default_dtype),
    (torch.get_num_threads, torch.set_num_threads),
    (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
    (torch.is_anomaly_enabled, torch.set_anomaly_enabled),
    (torch.get_deterministic_debug_mode, torch.set_deterministic_debug_mode),
    (np.geterr, lambda value: np.seterr(**value)),
    (sys.getrecursionlimit, sys.setrecursionlimit),
    (gc.isenabled, lambda value: gc.enable() if value else gc.disable()),
)
_FLAGS = ((torch.backends.cudnn, ("enabled", "benchmark", "deterministic")), (torch.backends.mkldnn, ("enabled",)))
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM)


@contextmanager
def restored(seed: int | None = None) -> Iterator[None]:
    """Put back what trials share when the context ends; a ``seed`` is given to the global generators within it.

    A method that draws from a global generator, which it should not, so draws the same whatever ran before it.
    """
    with ExitStack() as stack, warnings.catch_warnings():
        # Put back in the opposite order: patches first, for the others call what may be patched.
        for save in (_folder, _environment, _streams, _signals, _randomness, _settings, _hooks, _patches):
            stack.callback(_safely, save())
        if seed is not None:
            random.seed(seed)
            np.random.seed(seed % 2**32)  # noqa: NPY002 - the generator that careless code draws from
            torch.manual_seed(seed)
        yield


def _safely(restore: Restore) -> None:
    with suppress(Exception):  # what cannot be put back must not keep the rest from it
        restore()


def _settings() -> Restore:
    values = [*((read(), read, write) for read, write in _SETTINGS), _autocast("cpu"), _autocast("cuda")]
    flags = [(owner, name, getattr(owner, name)) for owner, names in _FLAGS for name in names]
    device = torch.get_default_device()

    def restore() -> None:
        for value, read, write in values:
            if read() != value:
                write(value)
        for owner, name, flag in flags:
            if getattr(owner, name) != flag:
                setattr(owner, name, flag)
        if torch.get_default_device() != device:
            torch.set_default_device(None if device.type == "cpu" else device)

    return restore


def _autocast(device: str) -> tuple[Any, Callable[[], Any], Callable[[Any], Any]]:
    def read() -> bool:
        return torch.is_autocast_enabled(device)

    return read(), read, lambda value: torch.set_autocast_enabled(device, value)


def _randomness() -> Restore:
    plain, array, tensor = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    started = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    devices = torch.cuda.get_rng_state_all() if started else None

    def restore() -> None:
        random.setstate(plain)
        np.random.set_state(array)  # noqa: NPY002
        torch.set_rng_state(tensor)
        if devices is not None:
            torch.cuda.set_rng_state_all(devices)

    return restore


def _hooks() -> Restore:
    """Hooks that torch calls for every module, and what else it keeps so."""
    names = vars(torch.nn.modules.module)
    saved = [(value, dict(value)) for name, value in names.items() if name.startswith("_global") and _is_dict(value)]

    def restore() -> None:
        for value, before in saved:
            if dict(value) != before:
                value.clear()
                value.update(before)

    return restore


def _is_dict(value: Any) -> bool:
    return isinstance(value, dict)


def _signals() -> Restore:
    if threading.current_thread() is not threading.main_thread():
        return lambda: None
    handlers = {number: signal.getsignal(number) for number in _SIGNALS}
    timer = signal.getitimer(signal.ITIMER_REAL)[0]

    def restore() -> None:
        if not timer:
            signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in handlers.items():
            if signal.getsignal(number) is not handler:
                signal.signal(number, handler)

    return restore


def _streams() -> Restore:
    objects = {name: getattr(sys, name) for name in ("stdin", "stdout", "stderr", "displayhook", "excepthook")}
    copies = {}
    for number in (0, 1, 2):
        with suppress(OSError):  # one that is closed stays closed
            copies[number] = os.dup(number)

    def restore() -> None:
        for name, value in objects.items():
            setattr(sys, name, value)
        for number, copy in copies.items():
            os.dup2(copy, number)
            os.close(copy)

    return restore


def _environment() -> Restore:
    before = dict(os.environ)

    def restore() -> None:
        for name in set(os.environ) - set(before):
            del os.environ[name]
        os.environ.update({name: value for name, value in before.items() if os.environ.get(name) != value})

    return restore


def _folder() -> Restore:
    before = os.open(".", os.O_RDONLY)  # by handle, for it may be renamed meanwhile

    def restore() -> None:
        os.fchdir(before)
        os.close(before)

    return restore


def _patches() -> Restore:
    saved = [(owner, vars(owner).copy()) for owner in _owners()]

    def restore() -> None:
        for owner, before in saved:
            if _unchanged(vars(owner), before):
                continue  # as nearly always, which is told without a look at what the names stand for
            now = vars(owner).copy()
            for name, value in before.items():
                if now.get(name) is not value and (callable(value) or isinstance(value, _DESCRIPTORS)):
                    with suppress(AttributeError, TypeError):
                        setattr(owner, name, value)

    return restore


def _unchanged(now: Mapping[str, Any], before: Mapping[str, Any]) -> bool:
    """Whether the same names stand, in the same order, for the same objects; no object is asked."""
    try:
        return list(now) == list(before) and all(map(operator.is_, now.values(), before.values()))
    except RuntimeError:  # a thread that was left running changes it meanwhile
        return False


def _owners() -> list[Any]:
    found = map(sys.modules.get, _patched(tuple(sys.modules)))
    modules = [module for module in found if isinstance(module, types.ModuleType)]
    values = list(itertools.chain.from_iterable(list(vars(module).values()) for module in modules))
    classes = dict.fromkeys(itertools.compress(values, map(isinstance, values, itertools.repeat(type))))
    return [*modules, *(each for each in classes if each.__flags__ & _HEAP)]


@functools.lru_cache(maxsize=1)
def _patched(imported: tuple[str, ...]) -> list[str]:
    """Return those of the imported modules that a plugin may change; asked before and after every trial."""
    return [name for name in imported if name in _PATCHED or name.startswith(_PACKAGES)]


_HEAP = 1 << 9  # Py_TPFLAGS_HEAPTYPE: a class made by Python code, whose methods can be replaced
