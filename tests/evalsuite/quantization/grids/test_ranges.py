from __future__ import annotations

import hypothesis.extra.numpy as npst
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from evalsuite.errors import RequestError
from evalsuite.quantization.grids.affine import affine_parameters
from evalsuite.quantization.grids.ranges import (
    CosineSimilarity,
    Divergence,
    MinMax,
    Percentile,
    PowerError,
    RangeOptions,
    Sample,
    _clipped,
)

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
    for estimator in (Percentile(90.0), PowerError(steps=10), CosineSimilarity(steps=10)):
        torch.testing.assert_close(estimator(weighted, 2, False), estimator(whole, 2, False))


@settings(deadline=None)
@given(channels, st.integers(2, 8), st.sampled_from([1.0, 2.0, 2.4]))
def test_power_error_is_never_above_minmax(x, bits, norm):
    sample = Sample.of(torch.from_numpy(x))
    estimator = PowerError(steps=20, norm=norm)
    low, high = estimator(sample, bits, False)
    error = estimator.losses(sample, bits, False)
    assert (error(low[None], high[None]) <= error(sample.low[None], sample.high[None])).all()
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


def migacz(x: np.ndarray, high: float, levels: int, bins: int) -> float:
    """TensorRT's divergence of the range 0..high, from its description, for values that are all positive."""
    width = x.max() / bins
    counts = np.bincount(np.round(x / width).astype(int), minlength=bins + 1).astype(float)
    counts[0] = counts[1]
    last = round(high / width)
    reference = counts[: last + 1].copy()
    reference[-1] += counts[last + 1 :].sum()
    level = np.round(np.arange(last + 1) * width / (np.float32(high) / (levels - 1))).clip(0, levels - 1)
    candidate = np.zeros(last + 1)
    for one in range(levels):
        members = (level == one) & (reference > 0)
        if members.any():
            candidate[members] = counts[: last + 1][members].sum() / members.sum()
    with np.errstate(divide="ignore", invalid="ignore"):
        p, q = reference / reference.sum(), candidate / candidate.sum()
        return float(np.where(p > 0, p * np.log(p / q), 0).sum())


def test_divergence_is_the_best_of_a_brute_force_search():
    x = np.random.default_rng(0).lognormal(0, 0.8, 20_000).astype(np.float32)
    sample = Sample.of(torch.from_numpy(x)[None])
    estimator = Divergence(steps=50, bins=512)
    low, high = estimator(sample, 4, False)
    tried = {step: migacz(x, x.max() * step / 50, 16, 512) for step in range(2, 51)}
    loss = estimator.losses(sample, 4, False)
    for step in (5, 20, 50):
        end = sample.high * (step / 50)
        assert float(loss(0 * end[None], end[None])) == pytest.approx(tried[step], rel=1e-3, abs=1e-6)
    best = min(tried, key=tried.get)
    assert float(high) == pytest.approx(float(x.max()) * best / 50, rel=1e-6)
    assert float(high) < 0.6 * x.max()
    assert (low == sample.low * (best / 50)).all()


def test_zeros_of_a_relu_do_not_move_the_divergence():
    x = torch.from_numpy(np.random.default_rng(1).gamma(2.0, 1.0, 5000).astype(np.float32))
    few, many = (Sample.of(torch.cat([x, torch.zeros(n)])[None]) for n in (1, 50_000))
    torch.testing.assert_close(Divergence(bins=256)(few, 4, False), Divergence(bins=256)(many, 4, False))


def test_too_few_values_keep_their_range():
    x = torch.randn(5, 9, generator=torch.Generator().manual_seed(0))
    sample = Sample.of(x)
    torch.testing.assert_close(Divergence()(sample, 8, True), (sample.low, sample.high))


@settings(deadline=None, max_examples=40)
@given(channels, st.integers(2, 8), st.booleans())
def test_searched_ranges_lie_inside_minmax_and_lose_no_more(x, bits, symmetric):
    sample = Sample.of(torch.from_numpy(x))
    for estimator in (CosineSimilarity(steps=12), Divergence(steps=12)):
        low, high = estimator(sample, bits, symmetric)
        assert (low.abs() <= sample.low.abs()).all()
        assert (high.abs() <= sample.high.abs()).all()
        loss = estimator.losses(sample, bits, symmetric)
        assert (loss(low[None], high[None]) <= loss(sample.low[None], sample.high[None])).all()


@pytest.mark.parametrize("estimator", [PowerError(), CosineSimilarity(), Divergence(steps=30, bins=64)])
@pytest.mark.parametrize("shape", [(1, 700), (5, 90), (64, 9)])
def test_ranges_tried_at_once_are_those_tried_one_by_one(estimator, shape):
    """To the last bit, for what is chosen decides every number of a record."""
    x = torch.randn(shape, generator=torch.Generator().manual_seed(3))
    x[0, 0] *= 400
    sample = Sample.of(x)
    loss = estimator.losses(sample, 4, False)
    low, high, best = sample.low, sample.high, loss(sample.low[None], sample.high[None])[0]
    for number, (lowest, highest) in enumerate(_clipped(sample)):
        for step in range(estimator.steps if number else estimator.steps - 1, 0, -1):
            ends = lowest * (step / estimator.steps), highest * (step / estimator.steps)
            error = loss(*(end[None] for end in ends))[0]
            low, high = (torch.where(error < best, *pair) for pair in zip(ends, (low, high), strict=True))
            best = torch.where(error < best, error, best)
    assert all(map(torch.equal, estimator(sample, 4, False), (low, high)))


@pytest.mark.parametrize("symmetric", [True, False])
def test_cosine_is_the_best_of_a_brute_force_search(symmetric):
    x = torch.from_numpy(np.random.default_rng(2).standard_t(2, 3000).astype(np.float32))
    sample = Sample.of(x[None])
    _, high = CosineSimilarity(steps=40)(sample, 3, symmetric)

    def cosine(step: int) -> float:
        scale, zero_point = affine_parameters(sample.low * (step / 40), sample.high * (step / 40), 3, symmetric)
        ends = (-4, 3) if symmetric else (0, 7)
        rounded = torch.fake_quantize_per_tensor_affine(x, scale[0], zero_point[0], *ends)
        return float(torch.nn.functional.cosine_similarity(x.double(), rounded.double(), dim=0))

    best = max(range(1, 41), key=cosine)
    assert float(high) == pytest.approx(float(sample.high) * best / 40, rel=1e-6)
    assert best < 40


def test_constant_channels_have_a_range():
    sample = Sample.of(torch.tensor([[0.0, 0.0, 0.0], [5.0, 5.0, 5.0], [-2.0, -2.0, -2.0]]))
    for estimator in (MinMax(), Percentile(), PowerError(), Divergence(), CosineSimilarity()):
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
    assert RangeOptions(range="kl", bins=512, steps=9).activation_estimator() == Divergence(9, 512)
    assert RangeOptions(range="cosine", steps=9).weight_estimator() == CosineSimilarity(9)


@pytest.mark.parametrize(
    "wrong", [{"percentile": 50.0}, {"percentile": 101.0}, {"steps": 0}, {"norm": 0.0}, {"bins": 1}]
)
def test_impossible_options_are_named(wrong):
    with pytest.raises(RequestError, match=f"{next(iter(wrong))} = .*expected"):
        RangeOptions(**wrong)
