"""Does it keep the contract? What fails is listed with its mend."""

import torch

import evalsuite
from evalsuite import testing
from evalsuite.templates.quantizer import Mine
from evalsuite.testing import examples


def test_it_keeps_the_contract() -> None:
    """On a small CNN and a small transformer, at 3 bits; ``model=``, ``images=`` and ``bits=`` take others."""
    testing.check_quantizer(Mine())


@torch.no_grad()
def test_more_bits_lose_less() -> None:
    """What a method should give belongs here; `evalsuite audit` measures on real images and a trained network."""
    network, images = examples.cnn(), examples.images()
    coarse, fine = (
        evalsuite.quantize(network, images, method=Mine(), weight_bits=bits, activation_bits=bits)(images)
        for bits in (3, 8)
    )
    wanted = network(images)
    assert (fine - wanted).abs().mean() < (coarse - wanted).abs().mean()
