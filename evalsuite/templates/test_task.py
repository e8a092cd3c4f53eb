"""Does it keep the contract? What fails is listed with its mend."""

import torch

from evalsuite import testing
from evalsuite.running.task_data import normalise
from evalsuite.templates.task import Mine


def test_it_keeps_the_contract() -> None:
    """Images, labels and network; ``root=`` is the folder of the data."""
    testing.check_task(Mine())


def test_the_network_knows_these_images() -> None:
    """A wrong mean, another order of the classes or of the channels shows here."""
    task = Mine()
    data = task.data(None)
    with torch.no_grad():
        predicted = task.model(None)(normalise(data.test_images, data)).argmax(dim=1)
    assert (predicted.numpy() == data.test_labels).mean() > 0.9
