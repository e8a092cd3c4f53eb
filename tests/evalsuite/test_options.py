"""No option without effect: every number and switch of every plugin changes what it gives, or is declared not to."""

from __future__ import annotations

import dataclasses
import functools
import json
import re
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from _dummies.models import TinyBlock, TinyTransformer, random_images, tiny_resnet, tiny_transformer
from torch import nn

from evalsuite import registry
from evalsuite.adaptation.adapted_model import adapt
from evalsuite.bits import BitPolicy
from evalsuite.optional_members import is_stream, selected, transformed
from evalsuite.plugins import COST_ONLY, Pool, PoolOutputs
from evalsuite.randomness import torch_generator

# What the others are set to while an option is changed, and to what it changes. A plugin's own entry comes first.
USUAL: dict[str, dict[str, Any]] = {
    "zoa": {"lr": 0.1, "min_batch": 4, "threshold": 0.05},
    "rotta": {"update_every": 8, "bank": 8},
    "t3a": {"supports": 4},
    "cotta": {"augmentations": 2},
    "foa": {"population": 4},
    "sar": {"margin": 1.0},
    "eata": {"margin": 1.0, "redundancy": 2.0},
    "long_tail": {"size": 60},
    "balanced": {"size": 100},
    "continual": {"images": 40, "burst_length": 4, "batch_size": 8, "corruptions": ["gaussian_noise", "fog"]},
    "adaround": {"iterations": 6, "batch_size": 6, "steps": 8},
    "brecq": {"iterations": 6, "batch_size": 6, "steps": 8},
    "qdrop": {"iterations": 6, "batch_size": 6, "steps": 8},
    "pd_quant": {"iterations": 6, "batch_size": 6, "steps": 8, "correction_steps": 4},
    "quantizers/ttaq": {"iterations": 6, "batch_size": 6, "steps": 8},
    "ptq4vit": {"candidates": 8, "rows": 64},
    "noise": {"fraction": 0.5},
    "other_data_set": {"fraction": 0.5},
    "synthetic": {"fraction": 0.5},
}
MOMENTUM = {"optimizer": "sgd", "lr": 0.1}
STRONG = {"regulariser": 10.0, "learning_rate": 0.1, "warmup": 0.0}
SETTING: dict[str, dict[str, Any]] = {
    "momentum": MOMENTUM,
    "adapters/ttaq.momentum": {},
    "neo.momentum": {},
    "percentile": {"range": "percentile"},
    "norm": {"range": "mse"},
    "steps": {"range": "mse"},
    "lame.steps": {},
    "bins": {"range": "kl"},
    "regulariser": STRONG,
    "warmup": STRONG,
    "b_start": STRONG,
    "b_end": STRONG,
    "quantizers/ttaq.step_iterations": {"base": "brecq"},
    "norm_strength": {"norm_steps": 2},
    "rounding_rate": {"norm_steps": 2},
    "candidates": {"method": "high_entropy", "size": 20},
    "ptq4vit.candidates": {},
    "concentration": {"label_order": "dirichlet"},
    "slots": {"label_order": "dirichlet"},
    "burst_length": {"bursts": 2},
    "other_data_set.fraction": {},
    "entropy_weight": {"bank": 4},
    "age_weight": {"bank": 4},
}
OTHER: dict[str, Any] = {
    "lr": 0.05,
    "momentum": 0.5,
    "sar.margin": 0.9,
    "eata.margin": 0.9,
    "age_weight": 0.0,
    "foa.moment_weight": 50.0,
    "entropy_weight": 50.0,
    "lame.steps": 1,
    "ema": 0.5,
    "restore": 0.5,
    "cotta.threshold": 0.0,
    "redundancy": 0.4,
    "fisher_weight": 1e4,
    "zoa.scale": 0.1,
    "quar.last": 0.5,
    "quar.largest_ratio": 0.5,
    "quar.blocks": 1,
    "zoa.moment_weight": 7.0,
    "zoa.threshold": 1e9,
    "zoa.min_batch": 64,
    "zoa.margin": 1e-4,
    "bank": 1,
    "reset": 100.0,
    "supports": 1,
    "symmetric": True,
    "learning_rate": 0.02,
    "b_end": 1.0,
    "warmup": 0.7,
    "percentile": 90.0,
    "bins": 16,
    "step_iterations": 3,
    "step_rate": 0.05,
    "range_images": 4,
    "cache_gigabytes": 1e-9,
    "block_columns": 2,
    "greatest_fraction": 0.7,
    "pem": 1.0,
    "log_steps": 3,
    "repq_vit.rows": 16,
    "equalisation": True,
    "prior": 8.0,
    "continual.reset": 3,
    "slots": 3,
    "imbalance": 5.0,
    "bursts": 2,
    "continual.rounds": 2,
    "classes": 2,
}
FULL_PRECISION_ONLY = {("quantizers", "onnxruntime")}  # its engine is an extra, tested beside it

X = random_images(12)
SOURCE = random_images(16, 9)
BATCHES = [random_images(8, seed) * (1 + seed // 2) + seed // 2 for seed in range(6)]


def lookup(table: dict[str, Any], kind: str, name: str, option: str = "") -> Any:
    """Return the most particular entry, None where there is none."""
    end = f".{option}" if option else ""
    keys = [f"{kind}/{name}{end}", f"{name}{end}", *([option] if option else [])]
    return next((table[key] for key in keys if key in table), None)


def other_value(kind: str, name: str, option: str, value: Any) -> Any:
    chosen = lookup(OTHER, kind, name, option)
    if chosen is not None:
        return chosen
    if isinstance(value, bool):
        return not value
    assert value is not None, f"{name}: say in OTHER what {option} is to become"
    if isinstance(value, int):
        return value // 2 if value > 1 else value + 1
    return value / 2 if value > 1 else value + 0.25


def numeric_options() -> list[tuple[str, str, dataclasses.Field[Any]]]:
    """Return the options that are numbers or switches, of all plugins that are given images."""
    number = re.compile(r"(?!tuple).*\b(int|float|bool)\b")
    return [
        (kind, name, option)
        for kind in ("adapters", "quantizers", "protocols")
        for name in registry.names(kind)
        if (kind, name) not in FULL_PRECISION_ONLY
        for option in dataclasses.fields(registry.load(kind, name))
        if option.init and number.match(str(option.type))
    ]


def residual() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Sequential(nn.Conv2d(3, 6, 3, 2, bias=False), nn.BatchNorm2d(6), nn.ReLU()),
            nn.Sequential(TinyBlock(6, 8, 2)),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(8, 5),
        ).eval()


def encoder() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return TinyTransformer(depth=1).eval()


def adapted(name: str, options: dict[str, Any], *, transformer: bool) -> list[torch.Tensor]:
    run = adapt((tiny_transformer if transformer else tiny_resnet)(), name, SOURCE, **options)
    return [run(images) for images in BATCHES]


def quantized(name: str, options: dict[str, Any], *, transformer: bool) -> list[torch.Tensor]:
    plugin = registry.configure("quantizers", name, options).build()
    model = plugin.insert((encoder if transformer else residual)(), BitPolicy(3, 4), X[:1]).eval()
    plugin.calibrate(model, X, torch_generator(0))
    with torch.no_grad():
        return [model(X), *model.state_dict().values()]


@functools.cache
def pool() -> Pool:
    generator = np.random.default_rng(0)
    outputs = PoolOutputs(*(generator.standard_normal((300, n), dtype=np.float32) for n in (5, 7)))
    return Pool(
        generator.integers(0, 256, (300, 32, 32, 3), dtype=np.uint8),
        generator.integers(0, 5, 300),
        outputs=lambda: outputs,
        load=lambda task, options: registry.configure("tasks", task, options).build().data(None),
    )


def laid_out(name: str, options: dict[str, Any]) -> list[Any]:
    protocol = registry.configure("protocols", name, options).build()
    if not is_stream(protocol):
        kept = selected(protocol, pool(), np.arange(300 if name != "other_data_set" else 40), np.random.default_rng(1))
        return [kept, transformed(protocol, pool(), pool().images[kept], kept, np.random.default_rng(2))]
    stream = protocol.plan(pool().labels, np.random.default_rng(1))
    return [str(stream.domains), stream.image, stream.domain, stream.starts, stream.resets, stream.constant_speed]


@functools.cache
def given(kind: str, name: str, options: str, *, transformer: bool) -> list[np.ndarray]:
    """Return all that a plugin gives with these options, JSON text."""
    chosen = json.loads(options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if kind == "protocols":
            parts = laid_out(name, chosen)
        else:
            parts = (adapted if kind == "adapters" else quantized)(name, chosen, transformer=transformer)
    return [part.numpy() if isinstance(part, torch.Tensor) else np.asarray(part) for part in parts]


def needs_tokens(name: str, option: str) -> bool:
    return name in ("ptq4vit", "repq_vit") or option == "prompts"


@pytest.mark.parametrize(
    ("kind", "name", "option"), [pytest.param(*case, id=f"{case[1]}-{case[2].name}") for case in numeric_options()]
)
def test_every_number_and_switch_changes_something_or_is_declared_not_to(kind, name, option):
    setting = (lookup(USUAL, kind, name) or {}) | (lookup(SETTING, kind, name, option.name) or {})
    before = setting.get(option.name, option.default)
    changed = setting | {option.name: other_value(kind, name, option.name, before)}
    assert changed[option.name] != before
    transformer = needs_tokens(name, option.name)
    one, other = (given(kind, name, json.dumps(s), transformer=transformer) for s in (setting, changed))
    if option.metadata.get(COST_ONLY):
        for a, b in zip(one, other, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    else:
        assert any(a.shape != b.shape or not np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_the_check_sees_an_option_without_effect():
    """Prior 0 and 0.0 are one setting: what it compares is what is given, to the last bit."""
    one, same = (given("adapters", "bn_adapt", json.dumps({"prior": prior}), transformer=False) for prior in (0, 0.0))
    assert all(np.array_equal(a, b) for a, b in zip(one, same, strict=True))
