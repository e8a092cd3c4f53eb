"""A device that is not the CPU and that every machine has: tensors that say so, over real ones that compute.

What mixes devices fails on a GPU only, where few tests are run. Under :class:`Elsewhere` it fails anywhere, and all
that depends on values is computed nevertheless, which torch's fake tensors leave out. Ours.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from evalsuite.errors import Refused
from evalsuite.execution import Watching, uncompiled
from evalsuite.isolation import reason_of
from evalsuite.testing._check import Failed, NotApplicable

DEVICE = "lazy"
"""Its name: a kind of device that torch knows, that nothing computes on, and that autograd takes for the CPU."""

_aten = torch.ops.aten
_MOVES = (_aten.copy_, _aten._to_copy)  # between devices
_INDEXED = (_aten.index, _aten.index_put, _aten.index_put_, _aten._index_put_impl_)  # by indices on the CPU as well
_FILLED = (_aten.masked_fill, _aten.masked_fill_, _aten.fill, _aten.fill_, _aten.index_fill, _aten.index_fill_)
_PRODUCTS = (_aten.convolution, _aten.mm, _aten.addmm, _aten.bmm, _aten.baddbmm, _aten.convolution_backward)


class WrongDevice(RuntimeError):
    """An operation that a GPU would refuse, or that is left to the CPU though its network is elsewhere."""


class _There(Tensor):
    """A tensor elsewhere; ``real_`` computes."""

    real_: Tensor

    @staticmethod
    def __new__(cls, real: Tensor) -> _There:
        there: _There = Tensor._make_wrapper_subclass(
            cls,
            real.size(),
            strides=real.stride(),
            storage_offset=real.storage_offset(),
            dtype=real.dtype,
            layout=real.layout,
            device=torch.device(DEVICE),
        )
        there.real_ = real
        return there

    def __repr__(self) -> str:  # type: ignore[override]
        return f"elsewhere: {self.real_!r}"

    def tolist(self) -> Any:
        return self.real_.tolist()

    def numpy(self, *, force: bool = False) -> Any:
        if not force:
            raise WrongDevice("numpy(): the tensor is on the device; expected cpu() before")
        return self.real_.detach().numpy()

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        return self.numpy()

    def untyped_storage(self) -> torch.UntypedStorage:
        return self.real_.untyped_storage()

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        return _computed(func, args, kwargs or {})  # also outside of the context, as a hook may run


class _Made(TorchFunctionMode):
    """Tensors of Python's numbers, which torch fills before it says where: made here, then moved."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func in (torch.tensor, torch.as_tensor) and _is_there(kwargs.get("device")):
            return func(*args, **kwargs | {"device": "cpu"}).to(DEVICE)
        if func is Tensor.new_tensor and isinstance(args[0], _There) and "device" not in kwargs:
            return torch.tensor(*args[1:], **{"dtype": args[0].dtype} | kwargs).to(DEVICE)
        return func(*args, **kwargs)


class _Computing(Watching):
    def __init__(self, products_here: bool) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._products_here = products_here

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _computed(func, args, kwargs or {}, self._products_here)


@contextmanager
def elsewhere(products_here: bool = False) -> Iterator[str]:
    """Have a further device, whose name is given, while the context lasts.

    ``module.to(name)``, ``tensor.to(name)``, ``device=name`` and autograd work as they do for ``cuda``.

    Parameters
    ----------
    products_here : whether products and convolutions may be computed on the CPU, as an engine of its own does.

    Raises
    ------
    WrongDevice
        In the context, where an operation takes tensors of both devices that no GPU would take together (numbers, and
        indices on the CPU, are taken), where it draws on the device from a generator of the CPU, where a tensor on the
        device is to be an array, or where a product or a convolution is computed on the CPU.
    """
    with uncompiled(), _Made(), _Computing(products_here):
        yield DEVICE


@contextmanager
def on_another_device(products_here: bool = False) -> Iterator[str]:
    """Have a further device, see :func:`elsewhere`, for a check: raise Failed for a WrongDevice and say where it is.

    Other errors say nothing of devices: they raise NotApplicable.
    """
    try:
        with elsewhere(products_here) as device:
            yield device
    except (Failed, Refused):
        raise
    except Exception as error:  # whatever a plugin makes of it
        wrong = wrong_device(error)
        if wrong is None:
            raise NotApplicable(f"another device cannot be pretended to it: {reason_of(error)}") from error
        raise Failed(f"{_place(wrong)}: {wrong}") from error


def require_there(logits: Any) -> None:
    """Raise Failed for logits that are on the CPU."""
    if isinstance(logits, Tensor) and not isinstance(logits, _There):
        raise Failed("logits are on the CPU: expected the device of the images")


def _place(error: BaseException) -> str:
    """Return file and line that led to an error, neither torch's nor this file's."""
    own = (__file__, str(Path(torch.__file__).parent))
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(own)]
    return f"{Path(frames[-1].filename).name}, line {frames[-1].lineno}" if frames else "?"


def here(tensor: Tensor) -> Tensor:
    """Return what a tensor holds, on the CPU, wherever it says that it is."""
    return tensor.real_ if isinstance(tensor, _There) else tensor


def _is_there(device: Any) -> bool:
    return device is not None and torch.device(device).type == DEVICE


def wrong_device(error: BaseException | None) -> WrongDevice | None:
    """Return the :class:`WrongDevice` that led to an error, if one did."""
    while error is not None and not isinstance(error, WrongDevice):
        error = error.__cause__ or error.__context__
    return error


def _computed(func: Any, args: Any, kwargs: dict[str, Any], products_here: bool = True) -> Any:
    given: list[Tensor] = []
    plain_args, plain = _mapped(args, given.append), {name: _mapped(v, given.append) for name, v in kwargs.items()}
    there = [tensor for tensor in given if isinstance(tensor, _There)]
    _check(func, args, given, there)
    device = kwargs.get("device")
    result_there = bool(there) if device is None else _is_there(device)
    if func.overloadpacket is _aten.copy_:  # into the first, wherever that is
        result_there = isinstance(args[0], _There)
    if result_there and kwargs.get("generator") is not None:
        raise WrongDevice(f"{func}: draws on the device from a generator of the CPU")
    if not (result_there or products_here) and func.overloadpacket in _PRODUCTS:
        raise WrongDevice(f"{func}: computed on the CPU, its operands of shapes {_shapes(given)}")
    result = func(*plain_args, **plain | ({"device": torch.device("cpu")} if device is not None else {}))
    return _moved(result, {id(tensor.real_): tensor for tensor in there}) if result_there else result


def _mapped(value: Any, see: Callable[[Tensor], None]) -> Any:
    """Return an operation's arguments with real tensors for those elsewhere, and show all tensors to ``see``."""
    if isinstance(value, Tensor):
        see(value)
        return here(value)
    return type(value)([_mapped(each, see) for each in value]) if isinstance(value, list | tuple) else value


def _moved(value: Any, known: dict[int, _There]) -> Any:
    """Return an operation's results elsewhere, what was changed in place as what it was."""
    if isinstance(value, Tensor):
        return known[id(value)] if id(value) in known else _There(value)
    return type(value)([_moved(each, known) for each in value]) if isinstance(value, list | tuple) else value


def _check(func: Any, args: Any, given: Sequence[Tensor], there: Sequence[_There]) -> None:
    packet = func.overloadpacket
    if not there or packet in _MOVES:
        return
    strangers = [tensor for tensor in given if not isinstance(tensor, _There)]
    if packet in _INDEXED and isinstance(args[0], _There):
        indices = [index for index in args[1] if isinstance(index, Tensor)]
        strangers = [each for each in strangers if not any(each is index for index in indices)]
    if packet in (*_INDEXED, *_FILLED) or torch.Tag.pointwise in func.tags or "_foreach_" in func.name():
        changed = args[0] if func._schema.is_mutable and args else None
        strangers = [each for each in strangers if each.ndim or each is changed]
    if strangers:
        raise WrongDevice(
            f"{func}: on the CPU are tensors of shapes {_shapes(strangers)}, on the device {_shapes(there)}"
        )


def _shapes(tensors: Sequence[Tensor]) -> str:
    return ", ".join(str(tuple(tensor.shape)) for tensor in tensors)
