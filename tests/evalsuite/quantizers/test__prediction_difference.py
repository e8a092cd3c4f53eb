from __future__ import annotations

import torch
from _dummies.models import random_images, tiny_resnet
from torch.nn import functional as F

from evalsuite.bits import BitPolicy
from evalsuite.quantization.grids.range_setting import set_weight_ranges
from evalsuite.quantization.grids.ranges import PowerError
from evalsuite.quantization.insert import insert_quantizers
from evalsuite.quantization.reconstruction.block_by_block import Reconstruction
from evalsuite.quantization.reconstruction.losses import Step
from evalsuite.quantization.reconstruction.options import Pass, ReconstructionOptions
from evalsuite.quantizers._prediction_difference import PredictionDifference
from evalsuite.quantizers.brecq import fisher_weights
from evalsuite.randomness import torch_generator

X = random_images(24)


def situations(check) -> list[str]:
    """Call a function with the situation of every unit of a network of 8 bits."""
    seen = []

    class Look:
        def prepare(self, situation):
            with torch.enable_grad():
                check(situation)
            seen.append(situation.unit.name)

    twin = insert_quantizers(tiny_resnet(), BitPolicy(8, 8), X[:1])
    set_weight_ranges(twin, PowerError())
    Reconstruction(twin, X, ReconstructionOptions()).learn(Pass(1, losses=(Look(),)), torch_generator(0))
    return seen


def test_fisher_weights_are_squared_gradients_of_the_likelihood_of_one_class():
    model = tiny_resnet()

    def check(situation):
        kept = fisher_weights(situation)
        assert kept.rows.shape == situation.targets.rows.shape
        torch.testing.assert_close(kept.rows.mean(), torch.tensor(1.0))
        if situation.unit.name == "layer3.1":
            outputs = situation.targets.rows.clone().requires_grad_()
            likelihood = F.linear(outputs.mean((2, 3)), model.fc.weight, model.fc.bias).log_softmax(1)
            each = [torch.autograd.grad(likelihood[:, c].sum(), outputs, retain_graph=True)[0] for c in range(5)]
            squares = torch.stack([one.square() for one in each])
            ratios = (kept.rows / squares).flatten(2)  # constant for the class that was drawn
            scale = ratios[:, :, 0].median()
            fits = ((ratios / scale - 1).abs() < 0.01).all(dim=2)
            assert bool(fits.any(dim=0).all())
        kept.release()

    assert len(situations(check)) == 8


def test_the_difference_of_a_prediction_from_itself_is_none():
    def check(situation):
        term = PredictionDifference(10.0, 4.0).prepare(situation)
        chosen = torch.tensor([3, 1, 4])
        output = situation.tail(situation.targets.take(chosen, X)).requires_grad_()
        torch.testing.assert_close(term(Step(chosen, output, output)), torch.tensor(0.0), atol=1e-4, rtol=0)
        other = (output.detach() + torch.randn_like(output)).requires_grad_()
        loss = term(Step(chosen, other, output))
        assert loss > 0
        loss.backward()
        assert other.grad.abs().sum() > 0
        if situation.unit.name == "fc":
            found, wanted = (x.detach() / 4 for x in (other, output))
            expected = (wanted.softmax(1) * (wanted.log_softmax(1) - found.log_softmax(1))).sum(1).mean() * 10
            torch.testing.assert_close(loss.detach(), expected)

    assert situations(check)[-1] == "fc"
