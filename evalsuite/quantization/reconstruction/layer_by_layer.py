"""What reaches a quantized network's layers, one after the other, without running all before each anew."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from evalsuite.execution import hooked
from evalsuite.quantization.graph.hooks import Reached, not_reached
from evalsuite.quantization.reconstruction.scratch import Kept, Scratch
from evalsuite.quantization.reconstruction.units import Chain, Unit, find_units

_MEMORY = 2 * 2**30  # bytes that what reaches blocks may take; beyond, files


@torch.no_grad()
def layers_in_turn(model: nn.Module, images: Tensor) -> Iterator[tuple[str, Callable[[str], Iterator[Tensor]]]]:
    """Yield the layers of a quantized network in order of execution, each with a function that runs what leads to it.

    The function takes the name of the layer, or of a module inside it, and yields what that module returns for the
    (N, C, H, W) images, batch by batch, without gradients; one that runs several times is seen the first time. It
    raises Refused if some images do not reach it. A layer may be changed in its turn: the later ones get what the
    network computes then.

    What reaches a block is kept, so that a layer costs a run of its block only, and the network is run a few times
    in all. Where a block reads more than what the one before gives, the network runs up to it.
    """
    with Scratch(_MEMORY) as scratch:
        chain = Chain(model, find_units(model, images[:1]), images, scratch)
        for unit in chain.units:
            inputs = chain.inputs(unit)
            outputs = _outputs(model, unit, inputs, images.device)
            for layer in unit.layers:
                yield layer, outputs
            chain.advance(unit, inputs)
            inputs.release()


def _outputs(model: nn.Module, unit: Unit, inputs: Kept, device: torch.device) -> Callable[[str], Iterator[Tensor]]:
    @torch.no_grad()
    def outputs(name: str) -> Iterator[Tensor]:
        given: list[Tensor] = []

        def stop(module: nn.Module, args: Any, output: Tensor) -> None:
            given.append(output)
            raise Reached

        for batch in inputs.parts():
            handle = model.get_submodule(name).register_forward_hook(stop)
            with hooked([handle]), contextlib.suppress(Reached):
                # A copy, because the unit may overwrite it.
                unit.run(model, batch.to(device).clone())
            if not given:
                raise not_reached(name)
            yield given.pop()

    return outputs
