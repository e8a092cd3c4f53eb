from __future__ import annotations

import pytest
import torch

from evalsuite.quantization.graph.einsum import by_product, is_product

SIZES = dict(zip("ABCDEF", (2, 3, 4, 5, 6, 7), strict=True))


def tensor(letters: str, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn([SIZES[letter] for letter in letters], generator=generator, dtype=torch.float64)


@pytest.mark.parametrize(
    "equation",
    ["A B C D, A B E D -> A B C E", "ABCD,BED->ABCE", "ABC,CD->DAB", "AB,BA->A", "AB,CD->DBCA", "ABCD,DBE->EAC"],
)
def test_an_einstein_sum_is_a_product_of_matrices(equation):
    left, right = equation.replace(" ", "").partition("->")[0].split(",")
    a, b = tensor(left, 0), tensor(right, 1)
    assert is_product(equation, a, b)
    torch.testing.assert_close(by_product(torch.matmul, equation, a, b), torch.einsum(equation, a, b))


@pytest.mark.parametrize("equation", ["AAB,AB->B", "AB,CB->A", "AB,AB", "...A,AB->B", "AB->BA", "AB,BC->"])
def test_other_sums_are_told_apart(equation):
    a = torch.ones(2, 2)
    assert not is_product(equation, a, a)
