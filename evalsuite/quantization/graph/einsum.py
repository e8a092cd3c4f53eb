"""Einstein sums of two tensors as one product of matrices."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor


def is_product(equation: str, a: Tensor, b: Tensor) -> bool:
    """Whether an equation ("bic,bjc->bij") only multiplies two tensors.

    Each letter stands once in what it is in, and none is summed over that is in one tensor only.
    """
    left, right, out = _parts(equation) or ("", "", "")
    alone = (set(left) ^ set(right)) - set(out)
    once = all(len(set(part)) == len(part) for part in (left, right, out))
    return bool(out) and once and not alone and (a.ndim, b.ndim) == (len(left), len(right))


def by_product(product: Callable[[Tensor, Tensor], Tensor], equation: str, a: Tensor, b: Tensor) -> Tensor:
    """Compute an Einstein sum for which :func:`is_product` holds by ``product`` of (..., n, m) and (..., m, p)."""
    parts = _parts(equation)
    assert parts is not None
    left, right, out = parts
    size = dict(zip(left, a.shape, strict=True)) | dict(zip(right, b.shape, strict=True))
    shared = [letter for letter in left if letter in right and letter in out]
    summed = [letter for letter in left if letter in right and letter not in out]
    rows = [letter for letter in left if letter not in right]
    columns = [letter for letter in right if letter not in left]
    batch = [size[letter] for letter in shared]

    def lengths(letters: list[str]) -> int:
        total = 1
        for letter in letters:
            total *= size[letter]
        return total

    first = a.permute([left.index(letter) for letter in shared + rows + summed])
    second = b.permute([right.index(letter) for letter in shared + summed + columns])
    first = first.reshape(*batch, lengths(rows), lengths(summed))
    second = second.reshape(*batch, lengths(summed), lengths(columns))
    found = shared + rows + columns
    result = product(first, second).reshape([size[letter] for letter in found])
    return result.permute([found.index(letter) for letter in out])


def _parts(equation: str) -> tuple[str, str, str] | None:
    """Return the letters of both tensors and of the result; None if an equation is not of two tensors and an arrow."""
    given, arrow, out = equation.replace(" ", "").partition("->")
    left, comma, right = given.partition(",")
    if not arrow or not comma or not all(part.isalpha() for part in (left, right, out)):
        return None
    return left, right, out
