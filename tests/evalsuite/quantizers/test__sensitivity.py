from __future__ import annotations

import pytest
import torch
from _dummies.models import random_images, tiny_resnet, tiny_transformer
from torch import nn
from torch.nn import functional as F

from evalsuite.bits import BitPolicy
from evalsuite.quantization.grids.layers import QuantMatMul, quantized_layers
from evalsuite.quantization.insert import insert_quantizers
from evalsuite.quantizers._sensitivity import draw, weighted_rows

ALL = 10**6


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def names(model: nn.Module) -> list[str]:
    return [*quantized_layers(model), *(name for name, one in model.named_modules() if isinstance(one, QuantMatMul))]


def expected_error(model: nn.Module, name: str, images: torch.Tensor, wrong: nn.Module) -> float:
    """Sum of squared gradient times squared change of the output, by autograd without drawing."""
    found = {}

    def keep(module, args, output):
        output.retain_grad()
        found["output"], found["wrong"] = output, wrong(*args)

    handle = model.get_submodule(name).register_forward_hook(keep)
    logits = model(images.clone().requires_grad_())
    handle.remove()
    F.cross_entropy(logits, logits.argmax(1), reduction="sum").backward()
    output = found["output"]
    return float((output.grad.square() * (output - found["wrong"]).square()).sum().detach())


@pytest.mark.parametrize("build", [tiny_resnet, tiny_transformer])
def test_taking_all_rows_gives_the_error_exactly(build):
    x = random_images(6)
    model = insert_quantizers(build(), BitPolicy(), x[:1])
    rows = weighted_rows(model, x, names(model), ALL, generator())
    assert list(rows) == names(model)
    for name, found in rows.items():
        module = model.get_submodule(name)
        if isinstance(module, QuantMatMul):
            expected = expected_error(model, name, x, lambda a, b: 1.1 * (a @ b))
            squared = (0.1 * (found.left @ found.right)).square()
        else:
            weight = module.weight.detach()
            bias = 0 if module.bias is None else module.bias.detach()
            shaped = [1, -1, 1, 1] if weight.ndim == 4 else [-1]
            offset = bias if isinstance(bias, int) else bias.reshape(shaped)
            expected = expected_error(
                model, name, x, lambda x, m=module, w=weight, b=offset: 1.1 * (m.apply_weight(x, w) - b) + b
            )
            grouped = weight.reshape(len(found.left), -1, found.left.shape[2])
            squared = (0.1 * (found.left @ grouped.transpose(1, 2))).square()
        assert float((squared * found.weight).sum()) == pytest.approx(expected, rel=2e-3, abs=1e-12)


def test_grouped_strided_padded_convolutions():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding="same"),
        nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2, padding_mode="reflect"),
        nn.Conv2d(6, 6, (3, 1), dilation=2, groups=6),
        nn.Flatten(),
        nn.Linear(6 * 4 * 8, 3),
    ).eval()
    x = random_images(3)
    model = insert_quantizers(net, BitPolicy(), x[:1])
    for name, found in weighted_rows(model, x, list(quantized_layers(model)), ALL, generator()).items():
        module = model.get_submodule(name)
        weight = module.weight.detach().reshape(len(found.left), -1, found.left.shape[2])
        wrong = lambda x, m=module: m.apply_weight(x, 0.5 * m.weight.detach())
        expected = expected_error(model, name, x, wrong)
        squared = (0.5 * (found.left @ weight.transpose(1, 2))).square()
        assert float((squared * found.weight).sum()) == pytest.approx(expected, rel=1e-3)


def test_drawing_is_unbiased_and_bounded():
    x = random_images(8)
    model = insert_quantizers(tiny_transformer(), BitPolicy(), x[:1])
    chosen = ["blocks.1.fc1", "blocks.1.attn.mix"]
    whole = weighted_rows(model, x, chosen, ALL, generator())
    for name in chosen:
        draws = [weighted_rows(model, x, [name], 40, generator(seed))[name] for seed in range(25)]
        assert all(one.weight.shape[0] * one.weight.shape[1] <= 80 for one in draws)
        total = float(whole[name].weight.sum())
        mean = sum(float(one.weight.sum()) for one in draws) / len(draws)
        assert mean == pytest.approx(total, rel=0.2)
        assert all(torch.equal(one.ends[0][1], whole[name].ends[0][1]) for one in draws)


def test_draw():
    weights = torch.tensor([0.0, 1.0, 3.0, 0.0])
    assert [part.tolist() for part in draw(weights, 2, generator())] == [[1, 2], [1, 1]]
    chosen, factor = draw(weights, 1, generator())
    assert float(weights[chosen] * factor) == pytest.approx(4)
    assert len(draw(torch.zeros(3), 2, generator())[0]) == 0


class Constant(nn.Module):
    """One layer reads a constant, the result of one counts nothing, and that of one is thrown away."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 16)
        self.table = nn.Linear(2, 4)
        self.ignored = nn.Linear(4, 4)
        self.unused = nn.Linear(4, 4)
        self.head = nn.Linear(4, 3)
        self.register_buffer("position", torch.ones(5, 2))

    def forward(self, x):
        x = self.stem(x).flatten(1)
        x = x + self.table(self.position).mean(0) + 0 * self.ignored(x)
        self.unused(x)
        return self.head(x)


def test_without_a_gradient_all_rows_weigh_the_same():
    torch.manual_seed(0)
    x = random_images(4)
    model = insert_quantizers(Constant().eval(), BitPolicy(), x[:1])
    rows = weighted_rows(model, x, ["table", "ignored", "unused", "head"], 3, generator())
    assert list(rows) == ["table", "ignored", "head"]
    assert (rows["ignored"].weight == 1).all()
    assert all(rows[name].weight.unique().numel() > 1 for name in ("table", "head"))
    model.table.bias.requires_grad_(False)
    assert (weighted_rows(model, x, ["table"], 3, generator())["table"].weight == 1).all()
