"""Does it keep the contract? What fails is listed with its mend."""

from evalsuite import testing
from evalsuite.templates.stream import Mine


def test_it_keeps_the_contract() -> None:
    """Over a test set of 1,200 images of 4 classes; ``labels=`` takes others."""
    testing.check_stream(Mine())


def test_so_it_does_with_other_options() -> None:
    """Where an option takes another way through the code."""
    testing.check_stream(Mine(corruption="gaussian_noise", images=7, batch_size=3))
