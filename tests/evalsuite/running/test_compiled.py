"""Compiled code is used where it repays, is checked on every network, and never mixed with plain results unsaid."""

import numpy as np
import pytest
import torch
from _dummies.models import random_images, tiny_resnet
from _dummies.studies import execute, tiny
from torch import nn

from evalsuite import store
from evalsuite.compilation import CompiledNetwork
from evalsuite.errors import EvaluationWarning, RequestError
from evalsuite.running.compiled import COMPILE_SECONDS, SAVING, Choice, Compilations, Evaluated, kind_of, to_come
from evalsuite.running.units import Shown
from evalsuite.study.trials import adapts, expand

KIND, BATCH = "digits in 4 bits", 4


def test_images_to_come_are_whole_batches_of_networks_that_do_not_adapt():
    study = tiny(seeds=[0, 1])
    trials = expand(study, dict.fromkeys(study.tasks, ""))
    shows = {(t.task, t.stream, t.seed): Shown(60, {f"{t.seed} a": 24, f"{t.seed} b": 20}, 7) for t in trials}
    fixed = [trial for trial in trials if not adapts(trial.adapter)]
    networks = {trial.quantization for trial in fixed}
    found = to_come(trials, shows, processes=2)
    assert len({kind_of(trial) for trial in fixed}) == len(found) == 2  # full precision and W4A4
    # Of 24 images three batches of 7, of 20 two; the two orders of a stream show the same images.
    by_seed = sum((21 + 14) / 2 for _ in networks)
    full_precision = {t.quantization for t in fixed if t.quantizer.bits is None}
    assert sum(found.values()) == by_seed + 35 / 2 * (2 * len(full_precision) - len(full_precision))
    assert to_come(trials, {}, processes=2) == {}


@pytest.mark.parametrize(("share", "expected"), [(1.1, True), (0.9, False)])
def test_a_compilation_has_to_repay(share, expected):
    seconds = 0.5
    to_come_at_least = COMPILE_SECONDS / SAVING / seconds * BATCH
    compilations = Compilations({(KIND, BATCH): share * to_come_at_least + 100})
    assert not compilations.repays(KIND, BATCH)  # nothing was timed
    compilations.plain[KIND, BATCH] = [9.0, seconds, seconds]  # the first one warms up
    compilations.passed[KIND, BATCH] = 100
    assert compilations.repays(KIND, BATCH) is expected
    compilations.costs, compilations.savings = [COMPILE_SECONDS / 100], [SAVING]
    assert compilations.repays(KIND, BATCH)
    assert not compilations.repays(KIND, BATCH + 1)
    compilations.given_up.add((KIND, BATCH))
    assert not compilations.repays(KIND, BATCH)


@torch.no_grad()
def test_a_network_passes_through_what_was_compiled_for_another():
    compilations = Compilations({(KIND, BATCH): 100})
    compilations.known[KIND, BATCH] = [CompiledNetwork(tiny_resnet(), "eager")]
    network, shown = tiny_resnet(seed=1), random_images(11)
    choice = Choice(compilations, KIND, network)
    evaluated = Evaluated(network, choice)
    choice.settle(BATCH)
    logits = torch.cat([evaluated(part) for part in shown.split(BATCH)])
    torch.testing.assert_close(logits, network(shown), rtol=1e-5, atol=1e-5)
    assert choice.images == BATCH  # the first batch is believed of the plain network, three images are no batch
    assert not torch.allclose(logits, tiny_resnet()(shown), atol=1e-3)


class _Signed(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x.flatten(1)[:, :3])


@torch.no_grad()
def test_compiled_code_that_says_otherwise_is_not_used():
    compilations = Compilations({(KIND, BATCH): 100})
    compilations.known[KIND, BATCH] = [CompiledNetwork(_Signed(torch.neg), "eager")]  # no state tells it apart
    network, shown = _Signed(torch.relu), random_images(8)
    choice = Choice(compilations, KIND, network)
    choice.settle(BATCH)
    with pytest.warns(EvaluationWarning, match="evaluated plain: compiled, it classifies .* otherwise"):
        logits = Evaluated(network, choice)(shown[:BATCH])
    choice.settle(BATCH)
    assert torch.equal(torch.cat([logits, Evaluated(network, choice)(shown[BATCH:])]), network(shown))
    assert choice.images == 0


def test_what_cannot_be_compiled_stays_plain():
    compilations = Compilations({(KIND, BATCH): 100}, plain={(KIND, BATCH): [1.0] * 3})
    with pytest.warns(EvaluationWarning, match="networks are evaluated plain, in batches of 4: compiled, "):
        assert compilations.compile(KIND, random_images(BATCH), _Signed(lambda x: x if x.sum() > 0 else -x)) is None
    assert compilations.given_up == {(KIND, BATCH)}


def test_a_run_says_how_it_was_evaluated_and_goes_on_in_that_way(tmp_path):
    execute(tiny(), tmp_path / "plain")
    execute(tiny(), tmp_path / "asked", compile=True)
    plain, asked = (store.load(tmp_path / name) for name in ("plain", "asked"))
    assert "compile" not in plain.study
    assert "compiled_images" not in plain.trials
    assert asked.study["compile"] is True
    assert any("--compile" in note for note in asked.study["notes"])
    fixed = asked.trials["adapter"] == "none"
    assert (asked.trials[fixed]["compiled_images"] == 0).all()  # so few images repay nothing
    assert asked.trials[~fixed]["compiled_images"].isna().all()
    np.testing.assert_array_equal(plain.records["prediction"], asked.records["prediction"])
    execute(tiny(), tmp_path / "asked")  # which has nothing left to do
    assert store.load(tmp_path / "asked").study["compile"] is True
    for folder, compile, said in ((asked.folder, False, "begun with --compile"), (plain.folder, True, "--no-compile")):
        store.record_file(folder, plain.trials["trial"].iloc[0]).unlink()
        with pytest.raises(RequestError, match=f"was begun with {said}: expected the same" if compile else said):
            execute(tiny(), folder, compile=compile)


def test_without_a_compiler_the_request_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("CXX", "")
    with pytest.raises(RequestError, match=r"--compile needs a C\+\+ compiler .*: expected one, or --no-compile"):
        execute(tiny(), tmp_path / "run", compile=True)
    assert not (tmp_path / "run").exists()
