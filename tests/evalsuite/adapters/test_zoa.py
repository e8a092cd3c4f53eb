import copy
import warnings

import pytest
import torch
from _dummies.models import random_images, tiny_resnet, tiny_transformer
from _dummies.zoa import BUILDS, EAGER, stream
from torch import nn

from evalsuite import registry
from evalsuite.adaptation.adapted_model import AdaptedModel, adapt
from evalsuite.adapters._detector import WhitenedDistance
from evalsuite.adapters._losses import softmax_entropy
from evalsuite.adapters._observer import moment_distance
from evalsuite.adapters.zoa import ZOA, adapted_norms
from evalsuite.errors import AdaptationWarning, Refused, RequestError
from evalsuite.randomness import torch_generator
from evalsuite.structure import describe
from evalsuite.torchvision_compat import import_torchvision


class Recorder:
    def __init__(self, model):
        self.calls, self.graphs = 0, []
        model.register_forward_hook(self.seen)

    def seen(self, module, args, output):
        self.calls += 1
        self.graphs.append(torch.is_grad_enabled() or output.requires_grad)


@pytest.mark.parametrize("build", BUILDS)
@pytest.mark.parametrize("perturbations", [1, 3])
def test_a_batch_costs_two_forwards_or_one_more_than_perturbations_and_no_graph(build, perturbations):
    model = build()
    adapter = ZOA(perturbations=perturbations, **EAGER)
    state = adapter.prepare(model, random_images(16), torch_generator(0))
    recorder = Recorder(model)
    for batch, images in enumerate(stream((2, 1), images=8), start=1):
        logits = adapter.step(state, images)
        assert recorder.calls == batch * (1 + perturbations)
        assert logits.grad_fn is None
    assert not any(recorder.graphs)
    assert all(parameter.grad is None for parameter in model.parameters())
    run = adapt(build(), "zoa", random_images(16), perturbations=perturbations)
    run(random_images(64))
    assert (run.costs["forwards"], run.costs["backwards"]) == (1 + perturbations, 0)


@pytest.mark.parametrize("build", BUILDS)
def test_one_step_is_the_published_one(build):
    """Recompute the first two batches from the formulas, on a second copy of the model."""
    options = {"lr": 0.01, "scale": 0.02, "moment_weight": 2.0, "threshold": 1e9}
    source, images = random_images(32, 7), 2 * random_images(64, 1)
    state = ZOA(**options).prepare(build(), source, torch_generator(5))
    other = ZOA(**options).prepare(build(), source, torch_generator(5))
    first = ZOA(**options).step(state, images)

    def loss(offset):
        other.flat.write(other.start + offset)
        seen = other.observer(images)
        return softmax_entropy(seen.logits).mean() + 2.0 * moment_distance(seen.groups, other.statistics)

    with torch.no_grad():
        zero = torch.zeros_like(other.start)
        generator = torch_generator(5)
        signs = torch.randint(0, 2, (len(zero),), generator=generator) * 2 - 1
        direction = signs * (0.5 + 0.5 * torch.rand(len(zero), generator=generator))
        epsilon = -0.01 * (loss(0.02 * direction) - loss(zero)) / (0.02 * direction)
        torch.testing.assert_close(state.epsilon, epsilon, atol=1e-6, rtol=1e-3)
        torch.testing.assert_close(state.flat.read(), state.start + epsilon, atol=1e-6, rtol=1e-4)

        other.flat.write(other.start)
        torch.testing.assert_close(first, other.observer(images).logits)
        history = other.observer(images).feature.mean(0)
        other.flat.write(state.flat.read())
        feature = other.observer(images).feature
        shifted = other.observer.head(feature + other.source_feature - history)
    torch.testing.assert_close(ZOA(**options).step(state, images), shifted)
    torch.testing.assert_close(state.history, 0.9 * history + 0.1 * feature.mean(0))


def test_weight_decay_alone_shrinks_epsilon():
    adapter = ZOA(lr=0.1, scale=1e-30, moment_weight=0.0)
    state = adapter.prepare(tiny_resnet(), random_images(16), torch_generator(0))
    state.epsilon += 1.0  # so large that the perturbation vanishes in rounding, and both losses are equal
    state.flat.write(state.start + state.epsilon)
    adapter.step(state, random_images(64))
    torch.testing.assert_close(state.epsilon, torch.full_like(state.epsilon, 1 - 0.1 * 0.4))


def test_coefficients_move_once_there_is_knowledge():
    run = adapt(tiny_resnet(), "zoa", random_images(16))
    for images in stream((3,)):
        run(images)
    assert not run.state.bank.coefficients.any()
    for images in stream((0, 2)):
        run(images)
    moved = run.state.bank.coefficients.clone()
    run(next(stream((0, 1))))
    assert moved.shape == (2,)
    assert (run.state.bank.coefficients != moved).all()


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_each_coefficient_moves_by_its_rate_whatever_the_size_of_the_estimate(decay):
    run = adapt(tiny_resnet(), "zoa", random_images(16), coefficient_lr=0.02, coefficient_decay=decay)
    for images in stream((3, 1)):
        run(images)
    for images in stream((0, 3)):
        before = run.state.bank.coefficients.clone()
        run(images)
        moved = run.state.bank.coefficients - (1 - 0.02 * decay) * before
        torch.testing.assert_close(moved.abs(), torch.full_like(moved, 0.02), atol=1e-4, rtol=0)
    assert not run.state.optimizer.state


def test_kept_moments_are_those_of_adamw():
    adapter = ZOA(keep_moments=True, lr=0.0, **EAGER)
    state = adapter.prepare(tiny_resnet(), random_images(16), torch_generator(0))
    for images in stream((1, 1), images=8):
        adapter.step(state, images)
    state.detector.threshold = 1e9  # no further domain
    twin = state.bank.coefficients.detach().clone()
    kept = copy.deepcopy(state.optimizer.state_dict())
    reference = torch.optim.AdamW([twin], lr=0.01, weight_decay=0.1)
    reference.load_state_dict(kept)
    slopes = []
    step = state.optimizer.step
    state.optimizer.step = lambda: (slopes.append(state.bank.coefficients.grad.clone()), step())
    for images in stream((0, 3), images=8):
        adapter.step(state, images)
    for slope in slopes:
        twin.grad = slope
        reference.step()
    assert len(slopes) == 3
    torch.testing.assert_close(state.bank.coefficients, twin)


def test_adaptation_lowers_its_loss_on_a_repeated_batch():
    adapter = ZOA(lr=0.01, moment_weight=10.0, threshold=1e9)
    state = adapter.prepare(tiny_transformer(), random_images(64), torch_generator(0))
    images = 2 * random_images(64, 1) + 1
    with torch.no_grad():
        before = float(state.loss(state.observer(images)))
        for _ in range(30):
            adapter.step(state, images)
        assert float(state.loss(state.observer(images))) < before - 0.3


class Overflowing(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(3)
        self.head = nn.Linear(3, 2)

    def forward(self, x):
        return self.head(self.norm(x.mean((2, 3)) * 1e3)) * torch.where(x.sum() > 1e4, float("nan"), 1.0)


def test_an_update_that_is_not_finite_is_not_made():
    state = ZOA().prepare(Overflowing(), random_images(16), torch_generator(0))
    ZOA().step(state, random_images(64).abs() + 10)
    assert state.skipped == 1
    assert torch.equal(state.flat.read(), state.start)


class Tempered(nn.Module):
    def __init__(self):
        super().__init__()
        self.model = tiny_resnet()

    def forward(self, x):
        return self.model(x) / 2


def test_no_shift_where_the_logits_are_not_the_heads_output():
    with pytest.warns(AdaptationWarning, match="predictions are made without the activation shift"):
        run = adapt(Tempered().eval(), "zoa", random_images(16), lr=0.0)
    assert not run.state.shifts
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        adapt(Tempered().eval(), "zoa", random_images(16), activation_shift=False)
    plain = Tempered().train()
    assert all(torch.allclose(run(images), plain(images), atol=1e-5) for images in stream((2,)))


def names(model, images=None):
    return adapted_norms(model, describe(model, images if images is not None else random_images(1)))


def test_which_norms_of_a_cnn_adapt():
    assert names(tiny_resnet()) == (
        "layer1.1.bn1",
        "layer1.1.bn2",
        "layer2.0.bn1",
        "layer2.0.bn2",
        "layer2.1.bn1",
        "layer2.1.bn2",
    )


def test_which_norms_of_a_bottleneck_cnn_adapt():
    models = import_torchvision().models
    found = names(models.resnet50(weights=None), torch.randn(1, 3, 64, 64))
    blocks = [f"layer1.{i}" for i in (1, 2)] + [f"layer2.{i}" for i in range(4)] + [f"layer3.{i}" for i in range(6)]
    assert set(found) == {f"{block}.bn{i}" for block in blocks for i in (1, 2)}


def test_which_norms_of_a_transformer_adapt():
    assert names(tiny_transformer()) == ("blocks.1.norm1", "blocks.1.norm2", "blocks.2.norm1", "blocks.2.norm2")
    vit = import_torchvision().models.VisionTransformer(32, 8, 12, 2, 8, 16, num_classes=3).eval()
    found = names(vit, torch.randn(1, 3, 32, 32))
    layers = [f"encoder.layers.encoder_layer_{i}" for i in range(1, 9)]
    assert set(found) == {f"{layer}.{norm}" for layer in layers for norm in ("ln_1", "ln_2")}


def test_every_norm_adapts_where_the_rule_leaves_none():
    plain = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, affine=False), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(784, 3)
    ).eval()
    assert names(plain) == ("2",)
    run = adapt(plain, "zoa", random_images(16))
    run(random_images(64))
    assert run.costs["adapted_parameters"] > 0


def test_source_statistics_do_not_depend_on_the_order_of_images_much_and_use_all_of_them():
    source = random_images(130)
    state = ZOA().prepare(tiny_transformer(), source, torch_generator(0))
    with torch.no_grad():
        whole = state.observer(source)
    torch.testing.assert_close(state.statistics[0].mean, whole.groups[0].mean(0), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(state.statistics[0].spread, whole.groups[0].std(0), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(state.source_feature, whole.feature.mean(0), atol=1e-5, rtol=1e-4)


def test_the_authors_values_follow_the_architecture():
    cnn = ZOA().prepare(tiny_resnet(), random_images(4), torch_generator(0))
    transformer = ZOA(threshold=0.3).prepare(tiny_transformer(), random_images(4), torch_generator(0))
    assert (cnn.options.lr, cnn.options.scale, cnn.options.moment_weight) == (1e-4, 0.01, 1.0)
    assert cnn.detector.threshold == 0.2
    assert (transformer.options.lr, transformer.options.scale, transformer.options.moment_weight) == (5e-4, 0.02, 30.0)
    assert transformer.detector.threshold == 0.3


def test_a_copied_state_goes_on_alone():
    adapter = ZOA(**EAGER)
    state = adapter.prepare(tiny_transformer(), random_images(16), torch_generator(0))
    for images in stream((2,), images=8):
        adapter.step(state, images)
    twin = copy.deepcopy(state)
    later = list(stream((0, 3), images=8))
    expected = [adapter.step(state, images) for images in later]
    assert all(torch.equal(adapter.step(twin, images), one) for images, one in zip(later, expected, strict=True))


def test_refusals_and_bad_options():
    plain = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, affine=False), nn.Flatten(), nn.Linear(784, 3))
    with pytest.raises(Refused, match="zoa needs norm layers"):
        adapt(plain, "zoa", random_images(2))
    with pytest.raises(Refused, match="at least 2 source images"):
        adapt(tiny_resnet(), "zoa", random_images(1))
    for options in ({"bank": -1}, {"scale": -1.0}, {"lr": float("nan")}, {"margin": 0.0}, {"perturbations": 0}):
        with pytest.raises(RequestError, match=f"{next(iter(options))} = "):
            ZOA(**options)
    assert isinstance(adapt(tiny_resnet(), "zoa", random_images(2)), AdaptedModel)


def test_the_whitened_distance_is_of_single_source_images_and_unsaid_where_it_is_not_asked_for():
    source = random_images(24, 3)
    state = adapt(tiny_resnet(), "zoa", source, distance="whitened").state
    stem = tiny_resnet().conv1(source)
    expected = WhitenedDistance.of_images(stem.mean((2, 3)), stem.var((2, 3), correction=0))
    torch.testing.assert_close(state.detector.distance.precision, expected.precision, rtol=1e-2, atol=1e-2)
    assert state.detector.threshold == 0.06
    assert "distance" not in registry.configure("adapters", "zoa", {"distance": "gaussian"}).values()
    assert registry.configure("adapters", "zoa", {"distance": "whitened"}).values()["distance"] == "whitened"
