"""Which devices a run computes on, and which of them a worker process gets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from evalsuite.environment import resolve_device
from evalsuite.errors import RequestError

_VISIBLE = "CUDA_VISIBLE_DEVICES"


def resolve_devices(wanted: str) -> tuple[str, ...]:
    """Return the devices that ``auto``, ``cpu``, ``cuda`` (all there are) or a list like ``cuda:0,cuda:2`` names.

    A single GPU that was not numbered stays ``cuda``.

    Raises
    ------
    RequestError
        If one is not there, is named twice, or is of another kind than the others.
    """
    names = [name.strip() for name in wanted.split(",")]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise RequestError(f"device {twice[0]!r} is named twice in {wanted!r}: expected each once, and --workers")
    if len(names) > 1 and not all(name.startswith("cuda:") for name in names):
        raise RequestError(f"devices {wanted!r}: expected a list of numbered ones, as cuda:0,cuda:1")
    first = resolve_device(names[0])
    if not first.startswith("cuda"):
        return (first,)
    import torch

    there = tuple(f"cuda:{number}" for number in range(torch.cuda.device_count()))
    if first == "cuda":
        return there if len(there) > 1 else (first,)
    for name in names:
        if name not in there:
            raise RequestError(f"device {name!r}: expected one that is there: {', '.join(there)}")
    return tuple(names)


def device_of(worker: int, devices: Sequence[str]) -> str:
    """Return the device of the worker of this number, from 0: each in turn."""
    return devices[worker % len(devices)]


def free_number(taken: Sequence[int]) -> int:
    """Return the lowest number from 0 that no worker has, so that one who follows another gets its device."""
    return next(number for number in range(len(taken) + 1) if number not in taken)


def alone(device: str, environment: Mapping[str, str]) -> tuple[str, dict[str, str]]:
    """Return a device's name in a process that sees no other GPU, and the variables that make it so.

    A process that sees several keeps a context, some hundred megabytes, on each that anything touches, and plain
    ``cuda`` is the first to it, whatever it was given.
    """
    kind, _, number = device.partition(":")
    if kind != "cuda" or not number:
        return device, {}
    seen = [name.strip() for name in environment.get(_VISIBLE, "").split(",") if name.strip()]
    return kind, {_VISIBLE: seen[int(number)] if int(number) < len(seen) else number}
