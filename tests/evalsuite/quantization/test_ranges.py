from __future__ import annotations

import hypothesis.extra.numpy as npst
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from evalsuite.errors import RequestError
from evalsuite.quantization.affine import affine_parameters
from evalsuite.quantization.ranges import MinMax, Percentile, PowerError, RangeOptions, Sample

finite = st.floats(-1e3, 1e3, width=32, allow_subnormal=False)
channels = npst.arrays(np.float32, st.tuples(st.integers(1, 3), st.integers(1, 30)), elements=finite)


def measured_error(x: torch.Tensor, low: torch.Tensor, high: torch.Tensor, bits: int, norm: float) -> float:
    """By torch's own fake quantization."""
    scale, zero_point = affine_parameters(low, high, bits)
    rounded = torch.fake_quantize_per_tensor_affine(x, scale, zero_point, 0, 2**bits - 1)
    return float((rounded - x).abs().double().pow(norm).sum())


@settings(deadline=None)
@given(channels)
def test_minmax_is_what_occurred(x):
    low, high = MinMax()(Sample.of(torch.from_numpy(x)), 4, False)
    np.testing.assert_array_equal(low, x.min(1))
    np.testing.assert_array_equal(high, x.max(1))


@settings(deadline=None)
@given(channels, st.sampled_from([75.0, 99.0, 99.9, 100.0]))
def test_percentile_is_numpys(x, p):
    low, high = Percentile(p)(Sample.of(torch.from_numpy(x)), 4, False)
    expected = np.percentile(x.astype(np.float64), [100 - p, p], axis=1)
    np.testing.assert_allclose(np.stack([low, high]), expected, rtol=1e-5, atol=1e-3)


@settings(deadline=None)
@given(
    npst.arrays(np.float32, 6, elements=st.integers(-9, 9)),
    npst.arrays(np.int64, 6, elements=st.integers(0, 5)).filter(lambda counts: counts.sum() > 0),
)
def test_counts_are_repetitions(values, counts):
    repeated = torch.from_numpy(np.repeat(values, counts))[None]
    whole = Sample.of(repeated)
    weighted = Sample(torch.from_numpy(values)[None], torch.from_numpy(counts)[None], whole.low, whole.high)
    for estimator in (Percentile(90.0), PowerError(steps=10)):
        torch.testing.assert_close(estimator(weighted, 2, False), estimator(whole, 2, False))


@settings(deadline=None)
@given(channels, st.integers(2, 8), st.sampled_from([1.0, 2.0, 2.4]))
def test_power_error_is_never_above_minmax(x, bits, norm):
    sample = Sample.of(torch.from_numpy(x))
    estimator = PowerError(steps=20, norm=norm)
    low, high = estimator(sample, bits, False)
    best = estimator.error(sample, low, high, bits, False)
    assert (best <= estimator.error(sample, sample.low, sample.high, bits, False)).all()
    for row in range(len(x)):
        mine = measured_error(sample.values[row], low[row], high[row], bits, norm)
        theirs = measured_error(sample.values[row], sample.low[row], sample.high[row], bits, norm)
        assert mine <= theirs * 1.01 + 1e-6


def test_power_error_is_the_best_of_a_brute_force_search():
    x = torch.nn.functional.gelu(torch.cat([torch.linspace(-4, 4, 20001), torch.tensor([30.0])]))
    low, high = PowerError(steps=100, norm=2.0)(Sample.of(x[None]), 4, False)
    errors = [measured_error(x, x.min() * step / 100, x.max() * step / 100, 4, 2.0) for step in range(1, 101)]
    assert measured_error(x, low[0], high[0], 4, 2.0) == pytest.approx(min(errors), rel=1e-4)
    assert float(high) < 10


def test_constant_channels_have_a_range():
    sample = Sample.of(torch.tensor([[0.0, 0.0, 0.0], [5.0, 5.0, 5.0], [-2.0, -2.0, -2.0]]))
    for estimator in (MinMax(), Percentile(), PowerError()):
        low, high = estimator(sample, 4, False)
        scale, _ = affine_parameters(low, high, 4)
        assert scale.isfinite().all()
        torch.testing.assert_close(torch.maximum(high, -low), torch.tensor([0.0, 5.0, 2.0]))


def test_options_choose_the_estimators():
    options = RangeOptions(range="percentile", percentile=99.9, weight_range="minmax")
    assert options.activation_estimator() == Percentile(99.9)
    assert options.weight_estimator() == MinMax()
    assert RangeOptions(range="percentile", percentile=99.9).weight_estimator() == Percentile(99.9)
    assert RangeOptions(steps=80, norm=2).activation_estimator() == PowerError(80, 2)


@pytest.mark.parametrize(
    "wrong", [{"percentile": 50.0}, {"percentile": 101.0}, {"steps": 0}, {"norm": 0.0}, {"bins": 1}]
)
def test_impossible_options_are_named(wrong):
    with pytest.raises(RequestError, match=f"{next(iter(wrong))} = .*expected"):
        RangeOptions(**wrong)
