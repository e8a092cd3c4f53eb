"""A quantized network that :func:`evalsuite.quantization.saving.save` wrote, filled into the task's network."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from evalsuite.bits import BITS_FIELDS, BitPolicy
from evalsuite.errors import Refused, RequestError
from evalsuite.optional_members import engine_of
from evalsuite.quantization.saving import Recipe, load, recipe_in
from evalsuite.quantizers._given import content_of

EXPECTED = "a safetensors file that evalsuite saved"


@dataclass(frozen=True)
class SavedNetwork:
    """The network of a file that :func:`evalsuite.quantization.saving.save` wrote.

    Such a file holds no architecture: the task's is filled.

    Its method and bits are those that the file names; calibration images play no role.

    Parameters
    ----------
    path : the file.
    digest : of its content, which has to be the same whenever it is read; empty: any.
    """

    path: str
    digest: str = ""

    @property
    def engine(self) -> str:
        """What computes with its integers: what the method that made it uses."""
        try:
            return engine_of(self._recipe().quantizer)
        except RecursionError as error:
            raise RequestError(f"{self} names itself as what it was made of: expected {EXPECTED}") from error

    def __str__(self) -> str:
        return Path(self.path).name

    def insert(self, model: nn.Module, bits: BitPolicy, example: Tensor) -> nn.Module:
        """Return the network of the file.

        Raises
        ------
        RequestError
            If it cannot be read, has another digest, is of another network, or names a method that is not registered.
        Refused
            For another bit policy than the file's.
        """
        made = self._recipe()
        if any(getattr(bits, name) != getattr(made.bits, name) for name in BITS_FIELDS):
            raise Refused(f"{self} was quantized to {made.bits}; expected this instead of {bits}")
        return load(self.path, model, example)

    def calibrate(self, model: nn.Module, images: Tensor, generator: torch.Generator) -> None:
        """Do nothing: it comes quantized."""

    def _recipe(self) -> Recipe:
        content_of(self.path, self.digest, EXPECTED)
        return recipe_in(Path(self.path))
