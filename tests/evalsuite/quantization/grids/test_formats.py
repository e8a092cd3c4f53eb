from __future__ import annotations

import hypothesis.extra.numpy as npst
import ml_dtypes
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from evalsuite import number_formats
from evalsuite.errors import RequestError
from evalsuite.number_formats import E2M1, E2M3, E3M2, E4M3, E5M2, FORMATS, INT8, number_format
from evalsuite.quantization.grids.formats import (
    cast,
    chosen_scale,
    decode,
    encode,
    neighbours,
    power_of_two_below,
    round_to,
    scales,
)

ORACLES = {
    E4M3: ml_dtypes.float8_e4m3fn,
    E5M2: ml_dtypes.float8_e5m2,
    E3M2: ml_dtypes.float6_e3m2fn,
    E2M3: ml_dtypes.float6_e2m3fn,
    E2M1: ml_dtypes.float4_e2m1fn,
}
ELEMENTS = [*ORACLES, INT8]
ONE = torch.tensor(1.0)


def values_of(element: number_formats.Element) -> tuple[np.ndarray, np.ndarray]:
    """All finite values with their codes, by the oracle; MXINT8's are said by the specification: k / 64."""
    codes = np.arange(2**element.bits, dtype=np.uint8)
    if element is INT8:
        values = codes.view(np.int8).astype(np.float32) / 64
        return codes[values != -2], values[values != -2]
    values = codes.view(ORACLES[element]).astype(np.float32)
    return codes[np.isfinite(values)], values[np.isfinite(values)]


def by_oracle(x: np.ndarray, element: number_formats.Element) -> np.ndarray:
    """The oracle's cast where it is finite, saturated elsewhere."""
    x = np.clip(x, -element.greatest, element.greatest)
    if element is INT8:
        return (np.round(x * 64) / 64).astype(np.float32)  # numpy rounds ties to even
    return x.astype(ORACLES[element]).astype(np.float32)


def same(a: torch.Tensor, b: np.ndarray) -> bool:
    """Equal, signs of zeros included."""
    return bool(np.array_equal(a.numpy(), b) and np.array_equal(np.signbit(a.numpy()), np.signbit(b)))


@pytest.mark.parametrize("element", ELEMENTS)
def test_every_code_is_that_of_the_oracle(element):
    codes, values = values_of(element)
    assert len(codes) == {E4M3: 254, E5M2: 248, INT8: 255}.get(element, 2**element.bits)
    assert values.max() == element.greatest == -values.min()
    assert same(decode(torch.from_numpy(codes), element), values)
    assert np.array_equal(encode(torch.from_numpy(values), element).numpy(), codes)
    assert same(cast(torch.from_numpy(values), element), values)


@pytest.mark.parametrize("element", ELEMENTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_ties_their_neighbours_and_what_is_far_out_are_cast_as_the_oracle_does(element, dtype):
    _, values = values_of(element)
    points = np.unique(values).astype(np.float64)
    ties = (points[1:] + points[:-1]) / 2
    near = [np.nextafter(ties.astype(np.float32), np.float32(side)) for side in (np.inf, -np.inf)]
    far = [element.greatest * factor for factor in (1.01, 1.07, 2, 1e30)]
    x = np.concatenate([ties, *near, far, np.negative(far), [0.0, -0.0, 1e-45, -1e-45]]).astype(np.float32)
    assert same(cast(torch.from_numpy(x).to(dtype), element).float(), by_oracle(x, element))


@settings(deadline=None)
@given(npst.arrays(np.float32, 50, elements=st.floats(width=32, allow_nan=False)), st.sampled_from(ELEMENTS))
def test_any_float_is_cast_as_the_oracle_does_and_lies_between_its_neighbours(x, element):
    ours = cast(torch.from_numpy(x), element)
    assert same(ours, by_oracle(x, element))
    below, above = neighbours(torch.from_numpy(x), element)
    clipped = torch.from_numpy(x).clamp(-element.greatest, element.greatest)
    assert ((below <= clipped) & (clipped <= above) & ((ours == below) | (ours == above))).all()
    assert same(cast(below, element).abs(), below.abs().numpy())
    assert same(cast(above, element).abs(), above.abs().numpy())


def test_nan_is_kept_and_infinity_saturates():
    x = torch.tensor([torch.nan, torch.inf, -torch.inf])
    for element in ELEMENTS:
        found = cast(x, element)
        assert found[0].isnan()
        assert found[1:].tolist() == [element.greatest, -element.greatest]


@given(st.floats(min_value=2.0**-126, max_value=2.0**127, width=32))
def test_the_power_of_two_below(x):
    power = float(power_of_two_below(torch.tensor(x)))
    assert power <= x < 2 * power
    assert np.frexp(power)[0] == 0.5


def test_a_block_of_mxfp4_by_hand():
    # Greatest magnitude 50: floor(log2) = 5, less E2M1's 2: the scale is 2^3. 50 / 8 = 6.25 becomes 6, 3 / 8 = 0.375
    # is nearer to 0.5 than to 0, 2 / 8 = 0.25 is a tie and goes to the even 0, -20 / 8 = -2.5 a tie to the even -2.
    x = torch.zeros(32)
    x[:4] = torch.tensor([50.0, 3.0, 2.0, -20.0])
    assert scales(x, ONE, FORMATS["MXFP4"]).unique().tolist() == [8.0]
    assert round_to(x, ONE, FORMATS["MXFP4"])[:4].tolist() == [48.0, 4.0, 0.0, -16.0]
    # 7.9 would be a scale of 1, where it is beyond E2M1's reach and saturates, section 6.3 of the specification.
    assert round_to(torch.tensor([7.9, 0.6]), ONE, FORMATS["MXFP4"]).tolist() == [6.0, 0.5]


@pytest.mark.parametrize(
    ("name", "exponent"),
    [("MXFP8", 8), ("MXFP8-E5M2", 15), ("MXFP6", 2), ("MXFP6-E3M2", 4), ("MXFP4", 2), ("MXINT8", 0)],
)
def test_the_shared_exponent_is_that_of_the_specification(name, exponent):
    for magnitude, power in ((1.0, 0), (1.99, 0), (2.0, 1), (0.3, -2), (3e38, 127), (0.0, -200)):
        found = scales(torch.tensor([magnitude, 0.0]), ONE, FORMATS[name])
        assert float(found[0]) == 2.0 ** max(power - exponent, -127)


@pytest.mark.parametrize("name", ["MXFP8-RCEIL", "MXFP4-RCEIL"])
@given(magnitude=st.floats(min_value=2.0**-100, max_value=2.0**120, width=32))
def test_a_scale_rounded_up_is_the_least_power_of_two_that_cuts_nothing_off(name, magnitude):
    format = FORMATS[name]
    scale = float(scales(torch.tensor([magnitude, 0.0]), ONE, format)[0])
    assert np.frexp(scale)[0] == 0.5
    assert scale / 2 * format.element.greatest < magnitude <= scale * format.element.greatest


def test_blocks_are_32_neighbours_of_the_last_axis_and_the_last_one_may_be_shorter():
    x = torch.ones(2, 70)
    x[0, 31], x[0, 32], x[1, 69] = 64.0, 128.0, 256.0
    powers = scales(x, ONE, FORMATS["MXINT8"])
    assert powers[0].tolist() == [64.0] * 32 + [128.0] * 32 + [1.0] * 6
    assert powers[1].tolist() == [1.0] * 64 + [256.0] * 6
    # 1 is no multiple of 128 / 64 = 2: a tie, to even.
    assert round_to(x, ONE, FORMATS["MXINT8"])[0, [0, 33, 69]].tolist() == [1.0, 0.0, 1.0]


class Largest(TorchDispatchMode):
    """Counts the values of the largest tensor that is made."""

    values = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        self.values = max(self.values, made.numel() if isinstance(made, torch.Tensor) else 0)
        return made


@given(st.integers(1, 31))
def test_a_row_shorter_than_a_block_is_one_and_is_not_padded(n):
    x = torch.arange(1.0, n + 1).expand(3, n)
    with Largest() as largest:
        found = scales(x, ONE, FORMATS["MXFP8"])
    assert torch.equal(found, scales(F.pad(x, (0, 32 - n)), ONE, FORMATS["MXFP8"])[:, :n])
    assert largest.values == x.numel()


def test_blocks_of_nvfp4_by_hand():
    # Tensor scale 2688 / (6 * 448) = 1. The first block's greatest is 2688: scale 448. The second's is 10: 10 / 6 =
    # 1.667 becomes E4M3's 1.625, of which 10 is 6.15 steps, saturated to 6; 4 / 1.625 = 2.46 becomes 2.
    x = torch.zeros(32)
    x[0], x[16], x[17] = 2688.0, 10.0, 4.0
    scale = chosen_scale(x.min(), x.max(), FORMATS["NVFP4"])
    assert float(scale) == 1.0
    assert scales(x, scale, FORMATS["NVFP4"])[[0, 15, 16, 31]].tolist() == [448.0, 448.0, 1.625, 1.625]
    assert round_to(x, scale, FORMATS["NVFP4"])[[0, 16, 17]].tolist() == [2688.0, 9.75, 3.25]
    # A block whose scale is less than half of E4M3's least subnormal, 2^-9, is zero.
    x[16:18] = torch.tensor([6 * 2.0**-11, 6 * 2.0**-12])
    assert round_to(x, scale, FORMATS["NVFP4"])[16:].abs().max() == 0.0


@settings(deadline=None)
@given(
    npst.arrays(np.float32, st.tuples(st.integers(1, 3), st.integers(1, 70)), elements=st.floats(-1e4, 1e4, width=32)),
    st.sampled_from(list(FORMATS.values())),
)
def test_rounding_keeps_signs_and_is_odd_and_near(x, chosen):
    x = torch.from_numpy(x)
    scale = chosen_scale(x.min(), x.max(), chosen)
    y = round_to(x, scale, chosen)
    assert torch.equal(y, -round_to(-x, scale, chosen))
    assert (y * x >= 0).all()
    step = scales(x, scale, chosen)
    # Half a step of the greatest binade, or what saturation takes of a block whose scale was rounded down.
    element = chosen.element
    most = max(
        2.0 ** (element.greatest_exponent - element.mantissa) / 2, 2 * 2.0**element.greatest_exponent - element.greatest
    )
    allowed = step * most
    if chosen.block_scale:  # a block whose scale is less than half of E4M3's least, 2^-9, is zero
        allowed = torch.maximum(allowed, x.abs() / 2**4) + scale * element.greatest * 2.0**-10
    assert ((x - y).abs() <= allowed * 1.01 + 1e-30).all()


def test_formats_are_found_in_any_case_and_wrong_names_are_refused():
    assert number_format("mxfp4") is FORMATS["MXFP4"]
    with pytest.raises(RequestError, match="unknown number format 'FP7': did you mean 'FP8'"):
        number_format("FP7")
    assert {name: one.storage_bits for name, one in FORMATS.items()} == {
        "FP8": 8, "FP8-E5M2": 8, "MXFP8": 8.25, "MXFP8-E5M2": 8.25, "MXFP6": 6.25, "MXFP6-E3M2": 6.25,
        "MXFP4": 4.25, "MXINT8": 8.25, "NVFP4": 4.5, "MXFP8-RCEIL": 8.25, "MXFP4-RCEIL": 4.25,
    }  # fmt: skip
