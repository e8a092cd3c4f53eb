import copy
import itertools

import numpy as np
import pytest
import torch
from _dummies.models import random_images, tiny_resnet, tiny_transformer
from torch import nn

from evalsuite.adaptation.adapted_model import adapt
from evalsuite.adapters._losses import softmax_entropy
from evalsuite.adapters.foa import FOA, InputOffset, PromptTokens
from evalsuite.errors import Refused, RequestError
from evalsuite.layout import Layout


@pytest.mark.parametrize("build", [tiny_resnet, tiny_transformer])
def test_population_and_last_fittest_are_passed_forward_only(build):
    run = adapt(build(), "foa", random_images(16), population=6)
    run(random_images(8))
    assert (run.costs["forwards"], run.costs["backwards"], run.costs["adapted_parameters"]) == (7, 0, 0)


def test_the_global_generator_of_numpy_is_left_alone():
    np.random.seed(3)  # noqa: NPY002
    expected = np.random.RandomState(3).rand()
    adapt(tiny_transformer(), "foa", random_images(4), population=4)(random_images(4))
    assert np.random.rand() == expected  # noqa: NPY002


def test_fitness_falls_on_a_repeated_batch():
    run = adapt(tiny_transformer(), "foa", random_images(32), population=12, moment_weight=1.0)
    images = 2 * random_images(16, 1) + 1
    best = []
    for _ in range(12):
        run(images)
        best.append(run.state.evolution.best.f)
    assert best[-1] < best[0]


def under(state, values, images):
    state.prompt.set(np.asarray(values), images)
    seen = state.observer(state.prompt.applied(images))
    state.prompt.clear()
    return seen


@torch.no_grad()
def authors_objective(seen, statistics, weight):
    """Sum the entropies of a batch and ``weight`` x batch / 64 times all squared differences of statistics."""
    total = softmax_entropy(seen.logits).sum()
    for features, source in zip(seen.groups, statistics, strict=True):
        deviations = features.var(dim=0).sqrt()
        squares = (deviations - source.spread).pow(2).sum() + (features.mean(dim=0) - source.mean).pow(2).sum()
        total = total + weight * len(features) / 64 * squares
    return float(total)


@pytest.mark.parametrize("build", [tiny_resnet, tiny_transformer])
@pytest.mark.parametrize("images", [24, 64])
def test_the_evolution_minimises_the_authors_objective_per_image(build, images):
    batch = 2 * random_images(images, 1) + 0.3
    run = adapt(build(), "foa", random_images(32), population=6)
    run(batch)
    state = run.state
    best = state.evolution.best  # cma's own record of the best that it was told
    expected = authors_objective(under(state, state.fittest, batch), state.statistics, 0.4) / images
    assert best.f == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("build", [tiny_resnet, tiny_transformer])
def test_the_fittest_of_a_batch_is_passed_and_told_again_on_the_next(build):
    images = 2 * random_images(16, 1) + 1
    run = adapt(build(), "foa", random_images(32), population=4)
    best, evaluations = [], []
    for _ in range(12):
        run(images)
        best.append(run.state.evolution.fit.fit[0])  # sorted, of this batch
        evaluations.append(run.state.evolution.countevals)
    assert all(later <= earlier + 1e-5 for earlier, later in itertools.pairwise(best))
    assert evaluations == [5 * batch for batch in range(1, 13)]


def test_the_first_fittest_is_drawn_by_xaviers_rule_and_a_cnn_begins_without_an_offset():
    state = FOA(prompts=200).prepare(tiny_transformer(), random_images(4), torch.Generator().manual_seed(0))
    bound = (6 / (3 * 4 * 4 + 12)) ** 0.5  # patches of 4 x 4 pixels, tokens of 12
    assert np.abs(state.fittest).max() == pytest.approx(bound, rel=0.01)
    assert np.abs(state.fittest).max() <= bound
    assert state.fittest.std() == pytest.approx(bound / 3**0.5, rel=0.05)
    assert not FOA().prepare(tiny_resnet(), random_images(4), torch.Generator()).fittest.any()


@pytest.mark.parametrize("build", [tiny_resnet, tiny_transformer])
def test_the_shift_is_that_of_earlier_batches_over_all_their_passes(build):
    run = adapt(build(), "foa", random_images(32), population=4)
    history, shifted = None, []
    for images in (2 * random_images(16, seed) + seed for seed in range(3)):
        before = copy.deepcopy(run.state)
        with torch.no_grad():
            passes = [under(before, values, images) for values in [*before.evolution.ask(), before.fittest]]
            logits = run(images)
            best = under(run.state, run.state.fittest, images)
        if history is None:
            expected = best.logits
        else:
            expected = run.state.observer.classify(best.feature + run.state.source_feature - history)
        torch.testing.assert_close(logits, expected, atol=1e-4, rtol=1e-4)
        shifted.append(not torch.allclose(logits, best.logits, atol=1e-4))
        mean = torch.stack([seen.feature for seen in passes]).mean((0, 1))
        history = mean if history is None else 0.9 * history + 0.1 * mean
        torch.testing.assert_close(run.state.history, history, atol=1e-4, rtol=1e-4)
    assert shifted == [False, True, True]


def test_a_pass_that_is_not_finite_leaves_no_trace_in_the_history():
    class Brittle(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = tiny_resnet()

        def forward(self, x):
            return self.model(torch.where(x.mean() > 0.1, float("nan"), 1.0) * x)

    run = adapt(Brittle().eval(), "foa", random_images(32), population=6, sigma=20.0)
    spoilt = 0
    for seed in range(4):
        assert run(random_images(16, seed)).isfinite().all()
        spoilt += int(max(run.state.evolution.fit.fit) == 1e12)
    assert spoilt > 0
    assert run.state.history.isfinite().all()


def test_tokens_enter_after_the_prefix():
    tokens = PromptTokens(2, prefix=1, layout=Layout())
    tokens.learn_width = True
    x = torch.randn(3, 5, 4)
    assert tokens.insert(nn.Identity(), (x,)) is None
    assert tokens.size == 8
    tokens.set(np.arange(8.0), x)
    (found,) = tokens.insert(nn.Identity(), (x,))
    assert found.shape == (3, 7, 4)
    assert torch.equal(found[:, :1], x[:, :1])
    assert torch.equal(found[:, 3:], x[:, 1:])
    assert found[0, 1:3].flatten().tolist() == list(range(8))
    tokens.clear()
    assert tokens.insert(nn.Identity(), (x,)) is None


def test_an_offset_of_zero_is_none():
    images = random_images(4)
    offset = InputOffset(images)
    offset.set(np.zeros(offset.size), images)
    assert torch.equal(offset.applied(images), images)
    offset.set(np.ones(offset.size), images)
    torch.testing.assert_close((offset.applied(images) - images)[0, :, 0, 0], 0.1 * images.std((0, 2, 3)))


def test_refusals_and_bad_options():
    with pytest.raises(Refused, match="at least 2 source images"):
        adapt(tiny_resnet(), "foa", random_images(1))
    convolution = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 14), nn.Flatten()).eval()
    with pytest.raises(Refused, match="foa needs a classifier"):
        adapt(convolution, "foa", random_images(4))
    for options in ({"population": 1}, {"prompts": 0}, {"moment_weight": 0.0}, {"sigma": 0.0}):
        with pytest.raises(RequestError, match=next(iter(options))):
            FOA(**options)
