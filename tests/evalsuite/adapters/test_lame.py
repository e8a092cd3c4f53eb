import pytest
import torch
from _dummies.models import random_images, tiny_resnet
from hypothesis import given, settings
from hypothesis import strategies as st

from evalsuite.adaptation.adapted_model import adapt
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


def by_loops(logits, features, neighbours, steps):
    """Run the procedure of section 4 image by image, in double precision, without a rule to stop."""
    p = logits.double().softmax(dim=1)
    unit = features.double() / features.double().norm(dim=1, keepdim=True)
    y = p.clone()
    for _ in range(steps):
        rows = []
        for i in range(len(y)):
            distance = (unit - unit[i]).norm(dim=1)
            distance[i] = float("inf")
            pull = y[distance.argsort()[:neighbours]].sum(dim=0)
            rows.append((p[i].log() + pull).softmax(dim=0))
        y = torch.stack(rows)
    return y


@pytest.mark.parametrize("steps", [1, 2, 4, 100])
def test_as_many_steps_are_taken_as_asked_for(steps):
    generator = torch.Generator().manual_seed(1)
    logits, features = torch.randn(24, 4, generator=generator), torch.randn(24, 3, generator=generator)
    found = laplacian_correction(logits, features, 5, steps).exp()
    torch.testing.assert_close(found.double(), by_loops(logits, features, 5, steps), atol=1e-4, rtol=0)


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 1000), n=st.integers(7, 20))
def test_it_ends_where_another_step_changes_nothing(seed, n):
    generator = torch.Generator().manual_seed(seed)
    logits, features = torch.randn(n, 4, generator=generator), torch.randn(n, 3, generator=generator)
    settled = laplacian_correction(logits, features, 5, 1000).exp()
    torch.testing.assert_close(settled, laplacian_correction(logits, features, 5, 1001).exp(), atol=1e-6, rtol=0)
    torch.testing.assert_close(settled.double(), by_loops(logits, features, 5, 300), atol=1e-2, rtol=0)


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
