import ast
import math
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import evalsuite
import reports
from evalsuite.analysis import claims
from evalsuite.statistics import LEVEL, holm, wilcoxon_signed_rank

NUMBERS = st.one_of(st.just(math.nan), st.floats(-1, 1))
P = st.one_of(st.just(math.nan), st.floats(0, 1), st.just(LEVEL))
ROWS = st.lists(st.tuples(P, NUMBERS, NUMBERS), min_size=1, max_size=20)


@given(ROWS)
def test_a_claim_needs_both_and_a_missing_number_is_no_claim(rows):
    p, low, high = (pd.Series(values, dtype=float) for values in zip(*rows, strict=True))
    expected = [p < LEVEL and (low > 0 or high < 0) for p, low, high in rows]
    assert claims.shown(p, low, high).tolist() == expected
    assert [bool(claims.shown(*row)) for row in rows] == expected


@given(ROWS)
def test_a_claim_does_not_depend_on_which_method_comes_first(rows):
    p, low, high = (np.array(values) for values in zip(*rows, strict=True))
    np.testing.assert_array_equal(claims.shown(p, low, high), claims.shown(p, -high, -low))


def test_the_level_itself_is_not_below_it():
    assert not claims.significant(LEVEL)
    assert claims.out_of_reach(LEVEL)
    assert not claims.out_of_reach(math.nan)


@given(st.integers(1, 30), st.integers(10, 3000))
def test_the_least_p_of_permutations_is_what_holm_leaves_of_the_rarest(tests, permutations):
    rarest = [1 / (1 + permutations), *[1.0] * (tests - 1)]
    assert claims.least_permutation_p(tests, permutations) == pytest.approx(holm(rarest).min())
    assert math.isnan(claims.least_permutation_p(0, permutations))


@pytest.mark.parametrize("pairs", [6, 9, 15])
def test_the_least_signed_rank_p_is_that_of_differences_of_one_sign(pairs):
    test = wilcoxon_signed_rank(np.arange(1.0, pairs + 1), np.zeros(pairs))
    assert claims.least_signed_rank_p(pairs, 3) == pytest.approx(3 * test.p)


SOURCES = [Path(package.__file__).parent for package in (evalsuite, reports)]
FILES = sorted(
    file
    for folder in (SOURCES[0] / "analysis", SOURCES[0] / "statistics", SOURCES[1])
    for file in folder.rglob("*.py")
    if file.name != "_level.py"
)
LEVELS = {LEVEL, 1 - LEVEL, LEVEL / 2, 1 - LEVEL / 2}
NAMED = re.compile(r"level|alpha|confidence", re.IGNORECASE)


def bound(node: ast.AST) -> Iterator[tuple[str, ast.AST | None]]:
    """Yield the names that a node binds, each with its value."""
    if isinstance(node, ast.Assign):
        yield from ((ast.unparse(target), node.value) for target in node.targets)
    elif isinstance(node, ast.AnnAssign):
        yield ast.unparse(node.target), node.value
    elif isinstance(node, ast.keyword):
        yield node.arg or "", node.value


def numbers(node: ast.AST | None) -> set[object]:
    return {part.value for part in ast.walk(node) if isinstance(part, ast.Constant)} if node else set()


def offences(tree: ast.Module) -> Iterator[int]:
    """Yield the lines at which the level is written anew: compared with, bound to a name, subtracted, or in a text."""
    texts = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        compared = isinstance(node, ast.Compare) and any(
            isinstance(side, ast.Constant) and side.value == LEVEL for side in (node.left, *node.comparators)
        )
        named = any(NAMED.search(name) and numbers(value) & LEVELS for name, value in bound(node))
        part = getattr(node, "right", None)
        part = part.left if isinstance(part, ast.BinOp) else part
        subtracted = isinstance(node, ast.BinOp) and isinstance(part, ast.Constant) and part.value in LEVELS
        subtracted = subtracted and isinstance(node.left, ast.Constant) and node.left.value == 1
        shown = isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in texts
        if compared or named or subtracted or (shown and f"{LEVEL:g}" in node.value):
            yield node.lineno


@pytest.mark.parametrize("file", FILES, ids=lambda file: "/".join(file.parts[-3:]))
def test_the_level_stands_in_one_place(file):
    text = file.read_text(encoding="utf-8")
    assert list(offences(ast.parse(text))) == []
    # Captions are docstrings, which cannot be formatted: what they print is held to the constant.
    assert {float(number) for number in re.findall(r"\bp [<>]=? (0\.\d+)", text)} <= {LEVEL, 0.001}


@pytest.mark.parametrize(
    "line",
    ["x = p < 0.05", "LEVEL = 0.05", "alpha: float = 0.05", "f(level=0.975)", "y = 1 - 0.05 / k", "x = 'p < 0.05'"],
)
def test_a_level_written_anew_is_noticed(line):
    assert list(offences(ast.parse(line))) == [1]


def test_a_group_that_loses_nothing_is_not_harmed_however_far_from_chance():
    found = claims.harmed([0.001, 0.001, 0.001, 0.2, np.nan], [0.1, 0.0, -0.1, 0.1, 0.1])
    assert found.tolist() == [True, False, False, False, False]
