import pytest
import torch
from _dummies.models import random_images, tiny_resnet
from hypothesis import given, settings
from hypothesis import strategies as st

from evalsuite.adaptation import adapt
from evalsuite.adapters.lame import LAME, laplacian_correction
from evalsuite.errors import RequestError


def energy(logs, shares, features, neighbours):
    unit = torch.nn.functional.normalize(features, dim=1)
    distances = torch.cdist(unit, unit).fill_diagonal_(float("inf"))
    affinity = torch.zeros_like(distances).scatter_(1, distances.topk(neighbours, largest=False).indices, 1.0)
    pull = (affinity + affinity.T) / 2
    return float((shares * (shares.clamp(min=1e-30).log() - logs - pull @ shares)).sum())


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 1000), n=st.integers(7, 20))
def test_gives_probabilities_of_lower_energy_than_the_networks_own(seed, n):
    generator = torch.Generator().manual_seed(seed)
    logits, features = torch.randn(n, 4, generator=generator), torch.randn(n, 3, generator=generator)
    found = laplacian_correction(logits, features, 5, 100)
    torch.testing.assert_close(found.exp().sum(dim=1), torch.ones(n))
    logs = logits.log_softmax(dim=1)
    assert energy(logs, found.exp(), features, 5) <= energy(logs, logs.exp(), features, 5) + 1e-3


def test_neighbours_pull_an_unsure_image_to_their_class():
    features = torch.tensor([[1.0, 0.0]] * 6 + [[0.0, 1.0]] * 6)
    logits = torch.tensor([[3.0, 0.0]] * 6 + [[0.0, 3.0]] * 6)
    logits[2] = torch.tensor([0.0, 0.4])
    found = laplacian_correction(logits, features, 5, 100)
    assert found.argmax(dim=1).tolist() == [0] * 6 + [1] * 6


def test_an_image_alone_keeps_its_output_and_nothing_is_learnt():
    model = tiny_resnet()
    run = adapt(model, "lame", random_images(4))
    alone = run(random_images(1))
    torch.testing.assert_close(alone, model(random_images(1)).log_softmax(dim=1))
    run(random_images(16, 1))
    assert torch.equal(run(random_images(1)), alone)
    assert (run.costs["adapted_parameters"], run.costs["state_bytes"], run.costs["backwards"]) == (0, 0, 0)


@pytest.mark.parametrize("option", ["neighbours", "steps"])
def test_bad_options(option):
    with pytest.raises(RequestError, match=f"{option} = 0"):
        LAME(**{option: 0})
