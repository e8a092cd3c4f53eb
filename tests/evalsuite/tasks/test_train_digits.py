from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from evalsuite.hashing import digest_tensors
from evalsuite.randomness import torch_generator
from evalsuite.tasks import digits, train_digits
from evalsuite.tasks._files import load_tensors
from evalsuite.tasks.train_digits import Recipe, accuracy, augment, normalised, train


@pytest.fixture(scope="module")
def parts() -> dict[str, tuple[Tensor, Tensor]]:
    return {name: (normalised(x), torch.from_numpy(y)) for name, (x, y) in digits.splits().items()}


@pytest.mark.slow
@pytest.mark.parametrize(("build", "epochs", "rate"), [(digits.resnet, 5, 3e-3), (digits.vit, 15, 1e-3)])
def test_a_little_training_is_better_than_chance(build, epochs: int, rate: float, parts: dict) -> None:
    images, labels = (part[:320] for part in parts["train"])
    network = train(build, images, labels, Recipe(epochs, learning_rate=rate, weight_decay=0.01))
    assert accuracy(network, *parts["test"]) > 0.25  # chance: 0.1


def test_training_is_deterministic_and_leaves_the_global_state_alone(parts: dict) -> None:
    images, labels = (part[:64] for part in parts["train"])
    before = torch.get_rng_state()
    recipe = Recipe(epochs=1, learning_rate=1e-3, weight_decay=0.01)
    first, second = (digest_tensors(train(digits.resnet, images, labels, recipe).state_dict()) for _ in range(2))
    assert first == second
    assert torch.equal(torch.get_rng_state(), before)
    other = train(digits.resnet, images, labels, Recipe(epochs=1, learning_rate=1e-3, weight_decay=0.01, seed=1))
    assert digest_tensors(other.state_dict()) != first


def test_augmentation_moves_but_neither_brightens_nor_darkens() -> None:
    images = torch.rand(6, 3, 16, 16)
    same = augment(images, torch_generator(0), degrees=0, scale=0, shear=0, shift=0)
    torch.testing.assert_close(same, images, rtol=0, atol=1e-4)
    moved = augment(images, torch_generator(0))
    assert (moved - images).abs().mean() > 0.05
    assert moved.min() >= images.min() - 1e-6
    assert moved.max() <= images.max() + 1e-6
    flat = torch.rand(6, 3, 1, 1).expand(6, 3, 16, 16)
    torch.testing.assert_close(augment(flat, torch_generator(0)), flat)


def test_shift_is_a_part_of_the_image() -> None:
    images = torch.zeros(200, 1, 20, 20)
    images[:, :, 9:11, 9:11] = 1
    moved = augment(images, torch_generator(0), degrees=0, scale=0, shear=0, shift=0.2)
    centre = (moved * torch.arange(20.0)).sum((1, 2, 3)) / moved.sum((1, 2, 3))
    assert 3 < (centre - 9.5).abs().max() <= 4.01


def test_main_writes_what_a_task_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    recipe = Recipe(epochs=1, learning_rate=1e-3, weight_decay=0.01, batch=400)
    monkeypatch.setattr(train_digits, "NETWORKS", {"digits_resnet": (digits.resnet, recipe)})
    train_digits.main(tmp_path)
    state = load_tensors(tmp_path / "digits_resnet.safetensors")
    assert capsys.readouterr().out.endswith(f"weights {digest_tensors(state)}\n")
    monkeypatch.setattr(digits, "WEIGHTS", tmp_path)
    loaded = digits.DigitsResNet().model(None).state_dict()
    assert digest_tensors(loaded) == digest_tensors(state)
    assert np.isfinite(loaded["conv1.weight"].numpy()).all()
