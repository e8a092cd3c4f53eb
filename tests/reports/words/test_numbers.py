import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports.words import numbers as wording


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.25, "1.2"),
        (-1.26, "\N{MINUS SIGN}1.3"),
        (-0.04, "0.0"),
        (0.0, "0.0"),
        (math.nan, "\N{EN DASH}"),
        (None, "\N{EN DASH}"),
    ],
)
def test_number(value: float | None, text: str) -> None:
    assert wording.number(value) == text


def test_units_are_not_confused() -> None:
    assert wording.percent(0.123) == "12.3\u00a0%"
    assert wording.points(-0.031) == "\N{MINUS SIGN}3.1\u00a0points"
    assert wording.interval(0.11, 0.136) == "95\u00a0% interval 11.0 to 13.6"


@given(st.floats(0, 1))
def test_a_p_value_is_never_zero(p: float) -> None:
    assert "0.000" not in wording.p_value(p)
    assert ("<" in wording.p_value(p)) == (p < 0.001)


@pytest.mark.parametrize(("n", "text"), [(1, "1 class"), (2, "2 classes"), (0, "0 classes"), (12000, "12,000 classes")])
def test_count(n: int, text: str) -> None:
    assert wording.count(n, "class", "classes") == text.replace(" ", "\u00a0")


def test_listed() -> None:
    assert wording.listed(["a"]) == "a"
    assert wording.listed(["a", "b"]) == "a and b"
    assert wording.listed(["a", "b", "c"], "or") == "a, b or c"
