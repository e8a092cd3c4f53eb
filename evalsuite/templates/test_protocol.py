"""Does it keep the contract? What fails is listed with its mend."""

from evalsuite import testing
from evalsuite.templates.protocol import Mine


def test_it_keeps_the_contract() -> None:
    """On 800 made-up images of 4 classes; ``pool=`` takes others."""
    testing.check_step(Mine())


def test_so_it_does_with_other_options() -> None:
    """Where an option takes another way through the code."""
    testing.check_step(Mine(size=1, brightness=0.0))
