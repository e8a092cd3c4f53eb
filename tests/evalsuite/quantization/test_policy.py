from __future__ import annotations

import pytest

from evalsuite.errors import RequestError
from evalsuite.quantization.policy import BitPolicy, parse_bits


def test_bits_are_written_as_they_are_read():
    for weights in range(2, 9):
        for activations in range(2, 9):
            policy = BitPolicy(weights, activations)
            assert parse_bits(str(policy)) == (weights, activations)
            assert BitPolicy(**policy.as_dict()) == policy


@pytest.mark.parametrize("field", ["weight_bits", "activation_bits", "first_last_bits"])
@pytest.mark.parametrize("bits", [0, 1, 9, 32])
def test_impossible_bits_are_named(field, bits):
    with pytest.raises(RequestError, match=f"^{field} = {bits}: expected 2 to 8$"):
        BitPolicy(**{field: bits})


@pytest.mark.parametrize("text", ["", "4", "W4", "A4W4", "W4A", "W32A4", "W4A4 "])
def test_what_is_no_bit_width_is_named(text):
    with pytest.raises(RequestError, match="expected the form W4A8"):
        parse_bits(text)
