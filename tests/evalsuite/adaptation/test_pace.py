"""A stream at constant speed: who is slow adapts on fewer batches, and the others are predicted."""

import pytest
import torch
from _dummies.models import random_images, tiny_resnet
from _dummies.studies import execute, tiny
from hypothesis import given
from hypothesis import strategies as st

from evalsuite import store
from evalsuite.adaptation.adapted_model import AdaptedModel
from evalsuite.adaptation.pace import Pace, paced
from evalsuite.randomness import torch_generator


@given(st.integers(1, 12), st.integers(0, 5), st.integers(1, 40))
def test_every_kth_batch_is_taken(forwards, backwards, batches):
    pace, taken = Pace(), []
    for number in range(batches):
        if pace.takes():
            taken.append(number)
            pace.took(float(forwards), float(backwards))
    assert taken == list(range(0, batches, forwards + 2 * backwards))


def test_a_part_of_a_pass_takes_the_whole_of_its_time():
    pace = Pace()
    for forwards, busy in ((0.0, 0), (1.0, 0), (1.25, 1), (2.0, 1), (0.1 + 0.9 + 1e-12, 0)):
        pace.took(forwards, 0.0)
        assert pace.busy == busy


class Slow:
    """Passes each batch three times and says with which it moved the head's bias."""

    def prepare(self, model, source, generator):
        return State(model)

    def step(self, state, images):
        logits = [state.model(images) for _ in range(3)][-1]
        with torch.no_grad():
            state.model.head.bias += 1.0
        state.moved.append(len(state.moved))
        return logits


class State:
    def __init__(self, model):
        self.model, self.moved = model, []

    def facts(self):
        return {"moved": list(self.moved), "spans": [[0, len(self.moved)]], "count": len(self.moved)}


def slow():
    model = tiny_resnet()
    name = next(name for name, module in reversed(list(model.named_modules())) if isinstance(module, torch.nn.Linear))
    model.head = model.get_submodule(name)
    return model


def test_slow_adapters_see_every_kth_batch_and_say_which():
    adapted, pace = AdaptedModel(Slow(), slow(), random_images(4), torch_generator(0)), Pace()
    batches = [random_images(4, seed) for seed in range(8)]
    logits = [paced(adapted, batch, pace) for batch in batches]
    plain = slow().eval()
    with torch.no_grad():
        for number, (batch, found) in enumerate(zip(batches, logits, strict=True)):
            moved = number // 3 + (number % 3 > 0)  # a batch that is adapted on is predicted first
            torch.testing.assert_close(found, plain(batch) + moved, rtol=1e-5, atol=1e-5)
    assert adapted.facts == {"moved": [0, 3, 6], "spans": [0, 3, 6], "count": 3}
    adapted.reset()
    with torch.no_grad():
        torch.testing.assert_close(adapted(batches[0]), plain(batches[0]))
    assert adapted.facts == {"moved": [0, 3, 6, 8], "spans": [0, 3, 6, 8], "count": 4}
    assert adapted.totals["batches"] == 4
    assert adapted.totals["forwards"] == 3 * 3 + 5 + 3


@pytest.mark.parametrize("constant_speed", [False, True])
def test_a_study_asks_for_it(constant_speed, tmp_path):
    stream = {
        **{"protocol": "continual", "images": 24, "batch_size": 8, "severity": 1, "corruptions": ["contrast", "fog"]},
        "constant_speed": constant_speed,
    }
    drifting = {"method": "_dummies.plugins:Drifting"}
    quantizers = [{"method": "full_precision"}]
    study = tiny(quantizer=quantizers, adapter=[{"method": "none"}, drifting | {"passes": 2}], stream=[stream])
    execute(study, tmp_path / "run")
    rows = store.load(tmp_path / "run").trials.set_index("adapter_label")
    assert ("constant speed" in rows["stream_label"].iloc[0]) == constant_speed
    assert rows.loc["none", "forwards"] == 6
    slow_row = rows[rows["adapter"].str.contains("Drifting")].iloc[0]
    assert slow_row["forwards"] == (3 * 2 + 3 if constant_speed else 6 * 2)
