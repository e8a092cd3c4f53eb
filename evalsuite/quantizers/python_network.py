"""A network that a Python file makes: a function of images, or a module, quantized by whatever its author uses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from evalsuite import registry
from evalsuite.bits import BitPolicy
from evalsuite.errors import RequestError
from evalsuite.hashing import digest, digest_arrays, digest_bytes
from evalsuite.networks import floating_type
from evalsuite.quantizers._given import GivenNetwork, checked_given, content_of, same_content


@dataclass(frozen=True)
class PythonNetwork:
    """The network of a Python file, run as it is.

    A function is given (N, C, H, W) normalised images, float32 on the CPU, and returns (N, classes) logits. A module
    is run in eval mode where it has one, on the device that it is on. Bit widths and calibration images play no role;
    running the file is running its code.

    Parameters
    ----------
    path : ``path/to/file.py:NAME`` of the function or the module.
    digest : of the file's text and the module's state, which have to be the same whenever it is read; empty: any.
    """

    path: str
    digest: str = ""

    engine: ClassVar[str] = "python"

    def __str__(self) -> str:
        return file_and_name(self.path)

    def insert(self, model: nn.Module, bits: BitPolicy | None, example: Tensor) -> nn.Module:
        """Return the network of the file.

        Raises
        ------
        RequestError
            If it cannot be made, has another digest, or does not give finite logits of the task's images.
        """
        made = loaded(self.path)
        _same(self.path, self.digest, made)
        device = floating_type(made)[1] if isinstance(made, nn.Module) else "cpu"
        return checked_given(str(self), GivenNetwork(made, self.engine, device), model, example)

    def calibrate(self, model: nn.Module, images: Tensor, generator: torch.Generator) -> None:
        """Do nothing: it comes quantized."""


def file_and_name(path: str) -> str:
    """Shorten ``path/to/file.py:NAME`` to ``file.py:NAME``."""
    where, _, name = path.rpartition(":")
    return f"{Path(where).name}:{name}"


def loaded(path: str) -> Callable[[Tensor], Any]:
    """Run a file and return its function, or its module in eval mode.

    Raises
    ------
    RequestError
        If the file is missing or fails, or the name is neither.
    """
    made = registry.load_path(path, "NAME")
    if isinstance(made, nn.Module):
        _evaluate(made)
    elif isinstance(made, type) or not callable(made):
        what = "class" if isinstance(made, type) else type(made).__name__
        raise RequestError(f"{path} is a {what}: expected a function of images, or a torch.nn.Module")
    network: Callable[[Tensor], Any] = made
    return network


def _evaluate(module: nn.Module) -> None:
    try:
        module.eval()
    except NotImplementedError:  # a network that was exported has no modes
        return


def made_digest(path: str, made: Callable[[Tensor], Any]) -> str:
    """Hash of a file's text and, of a module, its state; not of what the file reads in its turn."""
    text = digest_bytes(content_of(path.rpartition(":")[0], "", "a Python file"))
    if not isinstance(made, nn.Module):
        return text
    return digest([text, [[name, *_hashed(plain)] for name, value in _state(made) for plain in _inner(value)]])


def _same(path: str, wanted: str, made: Callable[[Tensor], Any]) -> None:
    if not wanted:
        return
    found = made_digest(path, made)
    if isinstance(made, nn.Module) and found != wanted:
        raise RequestError(
            f"{path} is not what it was when it was chosen (digest {found}, then {wanted}): its file has changed, or "
            "its state is drawn anew or moves when it runs; expected a fixed network"
        )
    same_content(path, wanted, found)


def _state(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    for values in (module.named_parameters(), module.named_buffers()):
        yield from values


def _inner(tensor: Tensor) -> Iterator[Tensor]:
    """Yield the plain tensors that a tensor consists of; quantized ones of torch's extensions have several."""
    if hasattr(tensor, "__tensor_flatten__"):
        for name in tensor.__tensor_flatten__()[0]:
            yield from _inner(getattr(tensor, name))
    else:
        yield tensor


def _hashed(tensor: Tensor) -> list[Any]:
    plain = tensor.detach().cpu()
    integers = plain.int_repr() if plain.is_quantized else plain
    content = integers.contiguous().reshape(-1).view(torch.uint8).numpy()
    return [str(plain.dtype), list(plain.shape), digest_arrays(content)]
