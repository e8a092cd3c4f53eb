"""Networks that are handed in as they are, to be measured without a look inside."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from evalsuite.errors import RequestError
from evalsuite.hashing import digest_bytes
from evalsuite.network_check import check_network


class GivenNetwork(nn.Module):
    """A network that is run as it was handed in: (N, C, H, W) normalised images in, logits out, no gradients.

    It has no parameters and no state of its own; its copies share what they run, which nothing here changes.

    Parameters
    ----------
    run : gives the logits of float32 images on ``device``.
    engine : what computes, by which others see that there is nothing to look at inside.
    device : where ``run`` computes.
    batch : how many images it takes at a time, where that is fixed.
    """

    def __init__(
        self, run: Callable[[Tensor], Any], engine: str, device: str | torch.device = "cpu", batch: int | None = None
    ) -> None:
        super().__init__()
        self.engine = engine
        self._run = _Shared(run)
        self._device, self._batch = torch.device(device), batch

    @torch.no_grad()
    def forward(self, images: Tensor) -> Any:
        """Return the (N, classes) logits; whatever else is given, as it is."""
        given = images.detach().float().to(self._device)
        logits = self._run.call(given) if self._batch is None else in_batches(self._run.call, given, self._batch)
        return logits.to(images.device) if isinstance(logits, Tensor) else logits

    def extra_repr(self) -> str:
        """Show what computes."""
        return f"engine={self.engine}"


class _Shared:
    """Keeps a module from being part of another one, and from being copied."""

    def __init__(self, call: Callable[[Tensor], Any]) -> None:
        self.call = call

    def __deepcopy__(self, memo: dict[int, Any]) -> _Shared:
        return self


def in_batches(run: Callable[[Tensor], Any], images: Tensor, size: int) -> Any:
    """Run images ``size`` at a time; the last batch is filled up with its last image."""
    parts = []
    for part in (images[start : start + size] for start in range(0, len(images), size)):
        missing = size - len(part)
        logits = run(torch.cat([part, part[-1:].expand(missing, -1, -1, -1)]) if missing else part)
        if not isinstance(logits, Tensor) or len(logits) != size:
            return logits  # which the caller sees to be none
        parts.append(logits[: len(part)])
    return torch.cat(parts)


def checked_given(title: str, network: nn.Module, model: nn.Module, example: Tensor) -> nn.Module:
    """Return a network, in eval mode, after a look at what it gives.

    Parameters
    ----------
    title : what it is called in errors.
    model : the task's network, which says how many classes there are.
    example : (1, C, H, W) normalised image.

    Raises
    ------
    RequestError
        If it fails on the task's images, or gives anything but finite logits, one per class.
    """
    with torch.no_grad():
        classes = model(example).shape[1]
    check_network(title, network, torch.cat([example, example]), classes)
    return network.eval()


def content_of(path: str, digest: str, expected: str) -> bytes:
    """Return the bytes of a file.

    Parameters
    ----------
    digest : its :func:`evalsuite.hashing.digest_bytes`, which is compared; empty: whatever it is.
    expected : what it should be, for errors.

    Raises
    ------
    RequestError
        If it is not there, cannot be read or has another digest.
    """
    try:
        content = Path(path).read_bytes()
    except FileNotFoundError as error:
        raise RequestError(f"no file {path}: expected {expected}") from error
    except OSError as error:
        raise RequestError(f"cannot read {path}: {error.strerror or error}; expected {expected}") from error
    same_content(path, digest, digest_bytes(content))
    return content


def same_content(path: str, digest: str, found: str) -> None:
    """Raise RequestError if a file's digest is not the one that is asked for, where one is."""
    if digest and found != digest:
        raise RequestError(f"{path} has changed since it was chosen (digest {found}): expected {digest}")
