"""A network from a file of ``torch.export``: quantized by PT2E, torchao or by hand, run as it is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from evalsuite.bits import BitPolicy
from evalsuite.quantizers._given import GivenNetwork, checked_given, content_of
from evalsuite.quantizers._program_archive import EXPECTED, read_program


@dataclass(frozen=True)
class ExportedProgram:
    """The network of a ``.pt2`` file, run by PyTorch as it is.

    Bit widths and calibration images play no role. Nothing of the file is run but operations of torch's own (and of
    the packages that register those of quantized networks); guards on inputs are left out.

    Parameters
    ----------
    path : the file that ``torch.export.save`` wrote (torch 2.8 or later).
    digest : of its content, which has to be the same whenever it is read; empty: any.
    """

    path: str
    digest: str = ""

    engine: ClassVar[str] = "torch.export"

    def __str__(self) -> str:
        return Path(self.path).name

    def insert(self, model: nn.Module, bits: BitPolicy | None, example: Tensor) -> nn.Module:
        """Return the network of the file.

        Raises
        ------
        RequestError
            If it cannot be read, has another digest, holds what would run code, or does not give finite logits of the
            task's images.
        """
        program, module = read_program(content_of(self.path, self.digest, EXPECTED), str(self))
        network = GivenNetwork(module, self.engine, batch=_batch(program))
        return checked_given(str(self), network, model, example)

    def calibrate(self, model: nn.Module, images: Tensor, generator: torch.Generator) -> None:
        """Do nothing: it comes quantized."""


def _batch(program: Any) -> int | None:
    """Return how many images a program takes at a time, where that is fixed."""
    (name,) = program.graph_signature.user_inputs
    (taken,) = (node for node in program.graph.nodes if node.op == "placeholder" and node.name == name)
    first = taken.meta["val"].shape[0] if taken.meta["val"].ndim else None
    return first if isinstance(first, int) else None
