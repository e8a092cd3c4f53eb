"""An oracle descends the cross-entropy with labels, is told them alone, and competes with nothing."""

import copy

import pytest
import torch
from _dummies.models import random_images, tiny_resnet, tiny_transformer
from _dummies.studies import execute, tiny
from torch.nn import functional as F

from evalsuite import analysis, store
from evalsuite.adaptation.adapted_model import AdaptedModel
from evalsuite.adapters._norms import affine_norms, use_batch_statistics
from evalsuite.adapters.eata import EATA
from evalsuite.adapters.oracle import Oracle
from evalsuite.adapters.sar import SAR
from evalsuite.adapters.tent import Tent
from evalsuite.errors import Refused, RequestError
from evalsuite.randomness import torch_generator
from reports.figures.cost_against_error import CostAgainstError
from reports.figures.stream_error import StreamError

IMAGES = random_images(16)
LABELS = torch.arange(16) % 5


def adapted(adapter, model=None):
    return AdaptedModel(adapter, tiny_resnet() if model is None else model, IMAGES, torch_generator(0))


def test_the_first_step_is_one_of_gradient_descent_on_the_labels():
    oracle = adapted(Oracle("tent", {"optimizer": "sgd", "lr": 0.1, "momentum": 0.0}))
    logits = oracle(IMAGES, LABELS)
    twin = copy.deepcopy(tiny_resnet()).eval()
    use_batch_statistics(twin)
    free = [parameter for norm in affine_norms(twin) for parameter in (norm.weight, norm.bias)]
    expected = twin(IMAGES)
    torch.testing.assert_close(logits, expected.detach())
    gradients = torch.autograd.grad(F.cross_entropy(expected, LABELS), free)
    moved = [parameter for norm in affine_norms(oracle.state.model) for parameter in (norm.weight, norm.bias)]
    for before, gradient, after in zip(free, gradients, moved, strict=True):
        torch.testing.assert_close(after.detach(), (before - 0.1 * gradient).detach())


@pytest.mark.parametrize("host", [Tent, EATA, SAR])
def test_labels_teach_what_entropy_does_not(host):
    """On the same images again and again labels are learnt; the host alone only becomes sure of what it said first."""
    options = {"optimizer": "adam", "lr": 0.01} | ({} if host is Tent else {"margin": 1.0})
    options |= {"redundancy": 2.0} if host is EATA else {}
    model = tiny_transformer()
    oracle, alone = adapted(Oracle(host.__name__.lower(), options), model), adapted(host(**options), model)
    for _ in range(25):
        told, guessed = oracle(IMAGES, LABELS), alone(IMAGES)
    assert F.cross_entropy(told, LABELS) < 0.9 * F.cross_entropy(guessed, LABELS)


def test_only_an_oracle_is_told_labels():
    with pytest.raises(RequestError, match="Oracle learns from true labels: expected one of each image"):
        adapted(Oracle())(IMAGES)
    with pytest.raises(RequestError, match="Tent was given true labels: expected images only, for it is no oracle"):
        adapted(Tent())(IMAGES, LABELS)
    with pytest.raises(RequestError, match=r"labels of shape \(3,\): expected \(16,\)"):
        adapted(Oracle())(IMAGES, LABELS[:3])
    oracle = adapted(Oracle())
    oracle(IMAGES, LABELS)
    with pytest.raises(RequestError, match="without labels"):  # those of a batch are no other's
        Oracle().step(oracle.state, IMAGES)


@pytest.mark.parametrize("host", ["none", "t3a", "neo", "rotta"])
def test_there_is_no_oracle_where_there_is_no_loss_to_replace(host):
    with pytest.raises(Refused, match=f"no oracle of {host}: it descends no loss"):
        adapted(Oracle(host))


KNOWING = """
import torch

class Knowing:
    def __str__(self):
        return "oracle (labels), knowing"

    def prepare(self, model, source, generator):
        return {"classes": model(source[:1]).shape[1]}

    def reveal(self, state, labels):
        state["labels"] = labels

    def step(self, state, images):
        return torch.nn.functional.one_hot(state.pop("labels"), state["classes"]).float()
"""


def test_an_oracle_is_shown_and_compared_with_nothing(tmp_path):
    (tmp_path / "knowing.py").write_text(KNOWING)
    study = tiny(adapter=[{"method": [*(each.name for each in tiny().adapters), f"{tmp_path / 'knowing.py'}:Knowing"]}])
    execute(study, tmp_path / "run", trust=True)
    run, label = store.load(tmp_path / "run"), "oracle (labels), knowing"
    own = run.trials["adapter_label"] == label
    assert run.trials["oracle"].notna().equals(own)
    assert (run.trials.loc[own, "error"] == 0).all()  # it was told each batch's labels, in their order
    found = analysis.analyse(run)
    for name in ("summary", "comparisons", "rankings"):
        table = getattr(found, name)
        assert len(table)
        assert not (table == label).any(axis=None), name
    shown = found.estimates["oracles"]
    assert set(shown["adapter_label"]) == {label}
    assert (shown["error"] == 0).all()
    assert not any("p" in column.split("_") for column in shown)
    seen = [name for name, table in found.estimates.items() if (table == label).any(axis=None)]
    assert seen == ["oracles", "stream_errors"]
    stream, cost = StreamError(), CostAgainstError()
    for figure, column in ((stream, "adapter_label"), (cost, "line")):
        data = figure.data(run)
        assert set(data.loc[data["oracle"], column]) == {label}
        axes = figure.draw(data).axes
        lines = [line for each in axes for line in each.get_lines() if line.get_label() == label]
        assert lines
        assert all(line.get_linestyle() == "--" for line in lines)
    assert not data.filter(like="best_")[data["oracle"]].any(axis=None)
