"""Engines are timed in pairs, and medians of these are told."""

import pytest
import torch
from _dummies.studies import tiny
from hypothesis import given
from hypothesis import strategies as st

from evalsuite.errors import Refused
from evalsuite.running import latency
from evalsuite.running.latency import latency_of, paired_latency

SECONDS = st.lists(st.tuples(st.integers(1, 1000), st.integers(1, 1000)), min_size=1, max_size=9)


@given(SECONDS)
def test_medians_are_those_of_the_pairs(pairs):
    now, order = [0.0], []
    spent = {"own": [1, *(own for own, _ in pairs)], "other": [1, *(other for _, other in pairs)]}

    def compute(name):
        def run(images):
            order.append(name)
            now[0] += spent[name].pop(0)
            return images

        return run

    found = paired_latency(compute("own"), compute("other"), torch.zeros(4, 1), len(pairs), clock=lambda: now[0])
    own, other = (torch.tensor(each, dtype=torch.float64) for each in zip(*pairs, strict=True))
    assert found.latency_ms == pytest.approx(250 * own.quantile(0.5).item())
    assert found.float_latency_ms == pytest.approx(250 * other.quantile(0.5).item())
    assert found.latency_ratio == pytest.approx((own / other).quantile(0.5).item())
    assert order == ["own", "other"] * (len(pairs) + 1)


def test_without_full_precision_on_the_engine_there_is_no_latency(monkeypatch):
    def refuse(*given):
        raise Refused("no")

    latency._in_full_precision.cache_clear()
    monkeypatch.setattr(latency, "deploy", refuse)
    (task,) = tiny().tasks
    assert latency_of(torch.nn.Identity(), "onnxruntime", task, None, torch.zeros(1, 3, 32, 32)) is None
    latency._in_full_precision.cache_clear()
