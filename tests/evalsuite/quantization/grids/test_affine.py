from __future__ import annotations

import hypothesis.extra.numpy as npst
import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from evalsuite.quantization.grids.affine import (
    affine_parameters,
    dequantize,
    fake_quantize,
    integer_range,
    quantize,
    round_to_steps,
)

finite = st.floats(-1e4, 1e4, width=32, allow_subnormal=False)
arrays = npst.arrays(np.float32, st.integers(1, 40), elements=finite)
bit_widths = st.integers(2, 8)


def rounded(x: torch.Tensor, bits: int, symmetric: bool) -> tuple[torch.Tensor, torch.Tensor]:
    scale, zero_point = affine_parameters(x.min(), x.max(), bits, symmetric)
    return fake_quantize(x, scale, zero_point, integer_range(bits, symmetric)), scale


@settings(deadline=None)
@given(arrays, bit_widths, st.booleans())
def test_error_within_the_range_is_at_most_half_a_step(x, bits, symmetric):
    x = torch.from_numpy(x)
    y, scale = rounded(x, bits, symmetric)
    assert (x - y).abs().max() <= scale / 2 * (1 + 1e-3)


@settings(deadline=None)
@given(arrays, bit_widths, st.booleans())
def test_rounding_twice_changes_nothing(x, bits, symmetric):
    x = torch.from_numpy(x)
    y, scale = rounded(x, bits, symmetric)
    _, zero_point = affine_parameters(x.min(), x.max(), bits, symmetric)
    assert torch.equal(fake_quantize(y, scale, zero_point, integer_range(bits, symmetric)), y)


@settings(deadline=None)
@given(arrays, bit_widths, st.booleans())
def test_order_is_kept_and_zero_is_exact(x, bits, symmetric):
    x = torch.from_numpy(np.sort(np.append(x, np.float32(0))))
    y, _ = rounded(x, bits, symmetric)
    assert (y.diff() >= 0).all()
    assert (y[x == 0] == 0).all()


@settings(deadline=None)
@given(arrays, bit_widths)
def test_agrees_with_torch_up_to_ties(x, bits):
    x = torch.from_numpy(x)
    scale, zero_point = affine_parameters(x.min(), x.max(), bits)
    y = fake_quantize(x, scale, zero_point, integer_range(bits))
    expected = torch.fake_quantize_per_tensor_affine(x, scale, zero_point, 0, 2**bits - 1)
    steps = x / scale
    tie = ((steps - steps.floor()) - 0.5).abs() < 1e-3
    torch.testing.assert_close(y[~tie], expected[~tie])
    assert ((y - expected)[tie].abs() <= scale * 1.001).all()


@settings(deadline=None)
@given(
    st.floats(width=32, allow_nan=False, allow_infinity=False),
    st.floats(width=32, allow_nan=False, allow_infinity=False),
    bit_widths,
    st.booleans(),
)
def test_any_finite_range_has_a_finite_positive_scale(a, b, bits, symmetric):
    low, high = torch.tensor(min(a, b)), torch.tensor(max(a, b))
    scale, zero_point = affine_parameters(low, high, bits, symmetric)
    integers = integer_range(bits, symmetric)
    assert scale.isfinite()
    assert scale > 0
    assert integers.low <= int(zero_point) <= integers.high


def test_known_grids():
    assert integer_range(2) == (0, 3)
    assert integer_range(8, symmetric=True) == (-128, 127)
    scale, zero_point = affine_parameters(torch.tensor(-1.0), torch.tensor(2.0), 2)
    assert (float(scale), int(zero_point)) == (1.0, 1)
    scale, zero_point = affine_parameters(torch.tensor(3.0), torch.tensor(6.0), 2)
    assert (float(scale), int(zero_point)) == (2.0, 0)  # widened to include 0
    scale, zero_point = affine_parameters(torch.tensor(-1.0), torch.tensor(2.0), 2, symmetric=True)
    assert (float(scale), int(zero_point)) == (2.0, 0)
    scale, _ = affine_parameters(torch.tensor(0.0), torch.tensor(0.0), 4)
    assert float(scale) == 1.0


@settings(deadline=None)
@given(npst.arrays(np.float32, (3, 7), elements=finite), bit_widths, st.booleans())
def test_channels_are_rounded_each_by_its_own_grid(x, bits, symmetric):
    x = torch.from_numpy(x)
    integers = integer_range(bits, symmetric)
    scale, zero_point = affine_parameters(x.amin(1), x.amax(1), bits, symmetric)
    together = fake_quantize(x, scale[:, None], zero_point[:, None], integers)
    apart = torch.stack([fake_quantize(*row, integers) for row in zip(x, scale, zero_point, strict=True)])
    assert torch.equal(together, apart)
    q = quantize(x, scale[:, None], zero_point[:, None], integers)
    assert q.min() >= integers.low
    assert q.max() <= integers.high
    assert torch.equal(dequantize(q, scale[:, None], zero_point[:, None]), together)


def test_gradient_passes_inside_the_clipping_range_only():
    scale, zero_point = affine_parameters(torch.tensor(-1.0), torch.tensor(2.0), 2)
    x = torch.tensor([-1.6, -1.4, -0.2, 0.7, 2.4, 2.6, float("nan")], requires_grad=True)
    y = fake_quantize(x, scale, zero_point, integer_range(2))
    y.backward(torch.arange(1.0, 8.0))
    assert x.grad.tolist() == [0, 2, 3, 4, 5, 0, 0]
    with torch.no_grad():
        plain = fake_quantize(x, scale, zero_point, integer_range(2))
    torch.testing.assert_close(y.detach(), plain, equal_nan=True)
    assert not plain.requires_grad


@given(arrays, bit_widths, st.booleans())
def test_plain_bounds_give_the_same_values_and_gradients(x, bits, symmetric):
    low, high = torch.from_numpy(x).quantile(torch.tensor([0.2, 0.7]))  # so that some are clipped
    scale, zero_point = affine_parameters(low, high, bits, symmetric)
    integers = integer_range(bits, symmetric)
    bounds = integers.low - int(zero_point), integers.high - int(zero_point)
    a, b = (torch.from_numpy(x).clone().requires_grad_() for _ in range(2))
    expected, found = fake_quantize(a, scale, zero_point, integers), round_to_steps(b, scale, *bounds)
    assert torch.equal(expected, found)
    assert torch.equal(round_to_steps(b.detach(), scale, *bounds), found)
    expected.sum().backward()
    found.sum().backward()
    assert torch.equal(a.grad, b.grad)
    assert torch.equal(b.detach(), torch.from_numpy(x))  # the input stays as it is
