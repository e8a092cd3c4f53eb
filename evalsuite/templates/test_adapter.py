"""Does it keep the contract? What fails is listed with its mend."""

from evalsuite import testing
from evalsuite.templates.adapter import Mine


def test_it_keeps_the_contract() -> None:
    """On a small CNN and a small transformer; ``model=`` and ``images=`` take others."""
    testing.check_adapter(Mine())


def test_so_it_does_with_other_options() -> None:
    """Where an option takes another way through the code."""
    testing.check_adapter(Mine(lr=0.1))
