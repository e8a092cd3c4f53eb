import copy
import functools

import pytest
import torch
from _dummies.adapters import Drifting, Misshapen
from _dummies.models import CLASSES, random_images, tiny_resnet, tiny_transformer
from torch import nn

from evalsuite import registry
from evalsuite.adaptation.adapted_model import AdaptedModel, adapt
from evalsuite.errors import Refused, RequestError
from evalsuite.quantization.apply import quantize
from evalsuite.quantization.grids.layers import quantized_layers
from evalsuite.randomness import torch_generator

# Options that make a test cheap; zoa's detector and rotta's updates must come to work on small batches.
OPTIONS = {
    "none": {},
    "bn_adapt": {},
    "tent": {},
    "eata": {"margin": 1.0, "redundancy": 2.0},
    "sar": {"margin": 1.0},
    "cotta": {"augmentations": 2},
    "rotta": {"update_every": 8, "bank": 8},
    "lame": {},
    "t3a": {},
    "foa": {"population": 4},
    "evalsuite.adapters.neo:NEO": {},
    "evalsuite.adapters.quar:QuAR": {},
    "zoa": {"min_batch": 8},
    "ttaq": {"host": "tent"},
}
LEARN = {"tent", "eata", "sar", "cotta", "rotta", "zoa", "ttaq"}
SEVERAL_PASSES = LEARN | {"foa"}
"""Those that a stream at constant speed passes by."""
BATCH_NORM_ONLY = ("bn_adapt", "rotta")


@functools.cache  # adapting leaves it as it is, which test_the_source_model_is_untouched holds
def quantized_by_rounding(build, **options):
    return quantize(build(), random_images(32), method="rtn", weight_bits=4, activation_bits=4, **options)


def adapted(adapter=None, model=None):
    return AdaptedModel(adapter or Drifting(), model or tiny_resnet(), random_images(4), torch_generator(0))


COMBINATIONS = [
    *((method, tiny_resnet) for method in OPTIONS),
    *((method, tiny_transformer) for method in OPTIONS if method not in BATCH_NORM_ONLY),
]


@pytest.mark.parametrize(("method", "build"), [pair for pair in COMBINATIONS if pair[0] in SEVERAL_PASSES])
def test_a_batch_that_is_only_predicted_teaches_nothing(method, build):
    batches = [random_images(8, seed) * (1 + seed) for seed in range(4)]
    one, other = (adapt(build(), method, random_images(16, 9), seed=3, **OPTIONS[method]) for _ in range(2))
    for batch in batches[:2]:
        one(batch), other(batch)
    shown = [one.predict(batches[3]) for _ in range(2)]
    assert torch.equal(*shown)
    assert torch.equal(one(batches[2]), other(batches[2]))
    assert not torch.equal(one.predict(batches[3]), shown[0]), "it predicts as it was left last"
    assert one.costs["batches"] == other.costs["batches"] == 3
    assert one.costs["forwards"] == other.costs["forwards"] + 3


@pytest.mark.parametrize(("method", "build"), COMBINATIONS)
def test_a_reset_model_answers_as_a_fresh_one_bit_for_bit(method, build):
    batches = [random_images(8, seed) * (1 + seed) for seed in range(4)]
    options = OPTIONS[method]
    first = adapt(build(), method, random_images(16, 9), seed=3, **options)
    answers = [first(batch) for batch in batches]
    for _ in range(2):
        first.reset()
        assert all(torch.equal(first(batch), answer) for batch, answer in zip(batches, answers, strict=True))
    fresh = adapt(build(), method, random_images(16, 9), seed=3, **options)
    assert all(torch.equal(fresh(batch), answer) for batch, answer in zip(batches, answers, strict=True))


@pytest.mark.parametrize(("method", "build"), COMBINATIONS)
def test_without_resets_all_is_the_same_but_that_it_cannot_begin_anew(method, build):
    setting, source = registry.configure("adapters", method, OPTIONS[method]), random_images(16, 9)
    runs = [
        AdaptedModel.from_setting(setting, build(), source, torch_generator(3), resets=how) for how in (True, False)
    ]
    for seed in range(3):
        kept, not_kept = (run(random_images(8, seed) * (1 + seed)) for run in runs)
        assert torch.equal(kept, not_kept)
    kept, not_kept = runs
    timeless = [{name: run.totals[name] for name in run.totals if "seconds" not in name} for run in runs]
    assert timeless[0] == timeless[1]
    assert (kept.facts, kept.adapted_modules) == (not_kept.facts, not_kept.adapted_modules)
    with pytest.raises(RequestError, match="expected resets=True"):
        not_kept.reset()


@pytest.mark.parametrize(("method", "build"), COMBINATIONS)
def test_the_source_model_is_untouched(method, build):
    model = build()
    before = copy.deepcopy(model)
    flags = [parameter.requires_grad for parameter in model.parameters()]
    run = adapt(model, method, random_images(16), **OPTIONS[method])
    run(random_images(16))
    run.reset()
    run(random_images(16))
    assert all(
        torch.equal(a, b) for a, b in zip(model.state_dict().values(), before.state_dict().values(), strict=True)
    )
    assert [parameter.requires_grad for parameter in model.parameters()] == flags
    assert not any(m._forward_hooks or m._forward_pre_hooks or m.training for m in model.modules())
    assert torch.equal(model(random_images(3)), before(random_images(3)))


@pytest.mark.parametrize(("method", "build"), COMBINATIONS)
@pytest.mark.parametrize("images", [1, 3])
def test_small_batches_give_finite_logits(method, build, images):
    run = adapt(build(), method, random_images(16), **OPTIONS[method] | ({"min_batch": 1} if method == "zoa" else {}))
    for seed in range(3):
        logits = run(random_images(images, seed))
        assert logits.shape == (images, CLASSES)
        assert logits.isfinite().all()
        assert not logits.requires_grad


@pytest.mark.parametrize("method", OPTIONS)
def test_a_batch_that_is_not_finite_changes_nothing(method):
    run = adapt(tiny_resnet(), method, random_images(16), **OPTIONS[method])
    run(random_images(16))
    broken = random_images(16, 1)
    broken[3, 0, 0, :3] = torch.tensor([float("nan"), float("inf"), -float("inf")])
    before, costs = copy.deepcopy(run.state), run.costs
    with pytest.raises(RequestError, match=r"batch 2 has 3 values that are not finite"):
        run(broken)
    assert run.costs == costs
    expected = registry.configure("adapters", method, OPTIONS[method]).build().step(before, random_images(16, 2))
    assert torch.equal(run(random_images(16, 2)), expected)


@pytest.mark.parametrize(("method", "build"), COMBINATIONS)
def test_quantized_networks_adapt_and_keep_their_weights(method, build):
    quantized = quantized_by_rounding(build)
    weights = [layer.weight.clone() for layer in quantized_layers(quantized).values()]
    run = adapt(quantized, method, random_images(16), **OPTIONS[method])
    for seed in range(3):
        logits = run(random_images(8, seed) + seed)
    assert logits.isfinite().all()
    assert (run.costs["adapted_parameters"] > 0) == (method in LEARN)
    adapted_weights = [layer.weight for layer in quantized_layers(run._model).values()]
    assert all(map(torch.equal, weights, adapted_weights)), "rounded weights stay on their grid"
    run.reset()
    fresh = adapt(quantized, method, random_images(16), **OPTIONS[method])
    assert torch.equal(run(random_images(8)), fresh(random_images(8)))


@pytest.mark.parametrize("method", ["bn_adapt", "tent", "eata", "sar", "rotta", "zoa"])
def test_folded_norms_are_a_reason_to_refuse(method):
    folded = quantized_by_rounding(tiny_resnet, fold_norm=True)
    with pytest.raises(Refused, match=f"{method} needs"):
        adapt(folded, method, random_images(16))


def test_wrong_inputs_are_named():
    run = adapted()
    with pytest.raises(RequestError, match=r"batch 1: got \(3, 16, 16\); expected at least one image"):
        run(random_images(1)[0])
    with pytest.raises(RequestError, match=r"got torch\.uint8; expected normalised"):
        run(torch.zeros(2, 3, 16, 16, dtype=torch.uint8))
    with pytest.raises(RequestError, match=r"batch 1: got \(1,\); expected at least one image"):
        run([1])
    with pytest.raises(RequestError, match="the source images: got"):
        adapt(tiny_resnet(), "none", torch.zeros(0, 3, 16, 16))
    with pytest.raises(RequestError, match="did you mean 'tent'"):
        adapt(tiny_resnet(), "tant", random_images(2))
    with pytest.raises(RequestError, match="momentum"):
        adapt(tiny_resnet(), "tent", random_images(2), momentum=2.0)
    with pytest.raises(RequestError, match=r"Misshapen gave logits of shape \(3, 5\); expected \(4, classes\)"):
        adapted(Misshapen())(random_images(4))


@pytest.mark.parametrize(
    ("change", "kind"),
    [(lambda y: y.tolist(), "list"), (lambda y: torch.complex(y, y), "torch.complex64"), (lambda y: None, "NoneType")],
)
def test_what_is_no_tensor_of_real_numbers_is_no_result(change, kind):
    class Odd(Drifting):
        def step(self, state, images):
            return change(super().step(state, images))

    with pytest.raises(RequestError, match=f"Odd gave {kind}; expected a tensor of real logits"):
        adapted(Odd())(random_images(4))


def test_logits_that_are_not_finite_are_no_result():
    run = adapted(Drifting(scale=0.0))
    run(random_images(4))
    with torch.no_grad():
        run.state.model.fc.bias[1] = float("nan")
        run.state.model.fc.bias[2] = float("inf")
    model = type(run.state.model).__name__
    expected = rf"^Drifting on {model}, batch 2: 8 of {4 * CLASSES} logits are not finite$"
    with pytest.raises(RuntimeError, match=expected):
        run(random_images(4))


def test_costs_begin_anew_at_a_reset_and_totals_do_not():
    run = adapted(Drifting(passes=3))
    assert run.costs == dict.fromkeys(run.costs, 0)
    for seed in range(2):
        run(random_images(4, seed))
    costs = run.costs
    assert costs["batches"] == 2
    assert costs["forwards"] == 6
    assert costs["backwards"] == 0
    assert costs["adapted_parameters"] == CLASSES
    assert costs["state_bytes"] == 2 * CLASSES * 4
    assert costs["seconds"] > costs["forward_seconds"] > 0
    run.reset()
    assert run.costs == dict.fromkeys(costs, 0)
    assert run.totals == costs
    run(random_images(4))
    assert run.costs["forwards"] == 3
    assert run.totals["forwards"] == 9
    assert run.totals["state_bytes"] == 2 * CLASSES * 4


def test_the_seed_decides_the_draws():
    answers = [adapt(tiny_resnet(), "zoa", random_images(16), seed=seed) for seed in (0, 0, 1)]
    last = [[run(random_images(64, i)) for i in range(3)][-1] for run in answers]
    assert torch.equal(last[0], last[1])
    assert not torch.equal(last[0], last[2])


def test_from_setting_builds_the_adapter_that_the_setting_describes():
    setting = registry.configure("adapters", "tent", {"optimizer": "sgd", "lr": 0.5})
    run = AdaptedModel.from_setting(setting, tiny_resnet(), random_images(4), torch_generator(0))
    assert run.state.optimizer.param_groups[0]["lr"] == 0.5


def test_what_adapters_say_of_themselves_lasts_over_resets():
    run = adapt(tiny_resnet(), "zoa", random_images(64), min_batch=8, threshold=0.0)
    for _ in range(2):
        for seed in range(3):
            run(random_images(8, seed))
        run.reset()
    assert run.facts == {
        "domain_changes": [1, 2, 4, 5],
        "judged_batches": [[1, 3], [4, 6]],  # the first after a start has none before it
        "unjudged": 0,
        "skipped": 0,
    }
    assert adapt(tiny_resnet(), "none", random_images(4)).facts == {}


def test_adapted_modules_are_those_that_moved_also_before_a_reset():
    model = tiny_resnet()
    run = adapt(model, "tent", random_images(8))
    assert run.adapted_modules == []
    run(random_images(8))
    norms = [name for name, module in model.named_modules() if isinstance(module, nn.BatchNorm2d)]
    assert run.adapted_modules == norms
    run.reset()
    assert run.adapted_modules == norms
    assert adapted().adapted_modules == []
