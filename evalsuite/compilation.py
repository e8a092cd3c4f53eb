"""Networks compiled by ``torch.compile``: once for a structure, then filled with the state of each network of it."""

from __future__ import annotations

import copy
import importlib.util
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from evalsuite.quantization.plain_state import differing_attributes

_BACKEND = "inductor"
_CACHE = "TORCHINDUCTOR_CACHE_DIR"


def missing_compiler(device: str) -> str:
    """Say what compiling for a device (``cpu``, ``cuda``, ``cuda:N``) needs and this machine lacks; empty: nothing."""
    if device.startswith("cuda"):
        return "" if importlib.util.find_spec("triton") else "Triton"
    compilers = [os.environ.get("CXX") or "g++", "g++", "clang++"]
    return "" if any(shutil.which(name) for name in compilers) else "a C++ compiler (g++, clang++ or $CXX)"


def compiled_code() -> Path:
    """Return the folder of compiled code that this user's processes share; no one else's, for what is there is run."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get(_CACHE) or Path(cache) / "evalsuite" / "compiled")


class OtherStructure(ValueError):
    """A network that is of another structure than the one that was compiled."""


class CompiledNetwork:
    """A network compiled for batches of one shape, which computes what any network of its structure does.

    Parameters
    ----------
    network : in eval mode; it is copied and stays untouched. Its structure is what is compiled; parameters and buffers
        may be replaced by :meth:`fill`.
    backend : of ``torch.compile``: its own, ``inductor``, makes machine code; ``eager`` none.

    Calls raise whatever torch's compiler does where it cannot compile a network, or would have to once more.
    """

    def __init__(self, network: nn.Module, backend: str = _BACKEND) -> None:
        self._code = compiled_code()  # torch's compiler names a folder of its own there once it is imported
        self._twin = copy.deepcopy(network).eval()
        self._modules = _modules(network)
        for module in self._twin.modules():
            if _plain_norm(module):
                module.__class__ = _EvalNorm

        def run(images: Tensor) -> Tensor:
            logits: Tensor = self._twin(images)
            return logits

        # What is compiled is kept by code object, and counts there towards a limit: this one gets its own.
        run.__code__ = run.__code__.replace()
        options = _options() if backend == _BACKEND else None
        self._run = torch.compile(run, fullgraph=True, dynamic=False, backend=backend, options=options)
        self._compiled = False

    def fill(self, network: nn.Module) -> None:
        """Compute from here on what another network of the same structure does.

        Raises
        ------
        OtherStructure
            If it has other modules, parameters or buffers, or attributes that its state does not bring with it.
        """
        if _modules(network) != self._modules:
            raise OtherStructure("expected the same modules")
        try:
            self._twin.load_state_dict(network.state_dict())
        except RuntimeError as error:
            raise OtherStructure("expected parameters and buffers of the same shapes") from error
        if differing := differing_attributes(self._twin, network):
            raise OtherStructure(f"{', '.join(differing)} differ: expected the same")

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """Return the (N, classes) logits of (N, C, H, W) images; the first call compiles, later ones never do."""
        if self._compiled:
            with torch.compiler.set_stance("fail_on_recompile"):
                return self._run(images)
        with _cached(self._code):
            logits = self._run(images)
        self._compiled = True
        return logits


def _modules(network: nn.Module) -> list[tuple[str, type[nn.Module]]]:
    return [(name, type(module)) for name, module in network.named_modules()]


class _EvalNorm(_BatchNorm):
    """BatchNorm on stored statistics in the order of operations of torch's own kernel, to the last bit on a CPU.

    The compiler takes it apart into another order, which moves activations across rounding edges.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, C, places...) inputs normalised."""
        assert self.running_mean is not None
        assert self.running_var is not None
        shape = (1, -1, *[1] * (x.ndim - 2))
        scale = torch.rsqrt(self.running_var + self.eps) * self.weight
        shift = self.bias - self.running_mean * scale
        return x * scale.view(shape) + shift.view(shape)


def _plain_norm(module: nn.Module) -> bool:
    plain = type(module) in (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
    return plain and all(getattr(module, name) is not None for name in ("weight", "running_mean", "running_var"))


def _options() -> dict[str, Any]:
    """Return options of torch's compiler, of those that this release has."""
    wanted = {
        "compile_threads": 1,  # more are processes, which would outlast a trial
        "cpp.enable_floating_point_contract_flag": "fast",  # torch's kernels multiply and add in one step
        "eager_numerics.division_rounding": True,
    }
    known = torch._inductor.list_options()
    return {name: value for name, value in wanted.items() if name in known}


@contextmanager
def _cached(folder: Path) -> Iterator[None]:
    """Keep compiled code where this user's processes find it."""
    before = os.environ.get(_CACHE)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.environ[_CACHE] = str(folder)
    try:
        yield
    finally:
        os.environ.pop(_CACHE)
        os.environ.update({} if before is None else {_CACHE: before})
