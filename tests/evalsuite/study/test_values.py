import datetime
import math
import tomllib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evalsuite.errors import RequestError
from evalsuite.study.file import parse, read
from evalsuite.study.values import MOST_TRIALS, check_count, check_name, check_values

BASE = """
name = "small"
tasks = ["digits/resnet"]
{top}
[[calibration]]
protocol = "calibration"
size = 32
[[quantizer]]
method = "rtn"
bits = ["W8A8", "W4A4"]
{quantizer}
[[adapter]]
method = "none"
[[stream]]
protocol = "continual"
{stream}
[gate]
{gate}
"""


def write(tmp_path, **parts):
    file = tmp_path / "study.toml"
    file.write_text(BASE.format(**dict.fromkeys(("top", "quantizer", "stream", "gate"), "") | parts))
    return file


@pytest.mark.parametrize(
    ("parts", "named"),
    [
        ({"stream": "images = 2020-01-01T00:00:00"}, r"stream\.images = 2020-01-01 00:00:00, a datetime"),
        ({"top": "seeds = [07:32:00]"}, r"seeds = 07:32:00, a time"),
        ({"quantizer": "fold_norm = inf"}, r"quantizer\.fold_norm = inf: expected a finite number"),
        ({"gate": "points = nan"}, r"gate\.points = nan"),
        ({"gate": "points = 1\nimages = -inf"}, r"gate\.images = -inf"),
        ({"top": f"seeds = [{'9' * 5000}]"}, r"is not a TOML file: .*4300 digits"),
        ({"top": f"seeds = [0x{'f' * 5000}]"}, r"seeds = a whole number of 20000 bits"),
        ({"top": f"source_images = {2**63}"}, r"source_images = a whole number of 64 bits"),
        ({"top": "x = " + "[" * 1200 + "]" * 1200}, "too deep"),
        ({"top": "seeds = " + "[" * 40 + "]" * 40}, "more than 16 deep"),
        ({"stream": f"batch_size = {list(range(1, 30000))}"}, r"59,998 trials \(2 quantizer x 29,999 stream\)"),
        ({"top": f"seeds = {list(range(10**5))}"}, r"200,000 trials .*; max_trials = 200000 lifts the limit"),
        ({"top": "max_trials = 1"}, "has 2 trials"),
        ({"top": "max_trials = 0"}, "max_trials = 0: expected at least 1"),
        ({"top": f"description = '{'a' * 2**22}'"}, "expected a study file, at most"),
    ],
)
def test_a_value_that_no_study_can_hold_is_named_in_one_line(tmp_path, parts, named):
    with pytest.raises(RequestError, match=named) as caught:
        read(write(tmp_path, **parts))
    assert len(str(caught.value)) < 2000
    assert "\n" not in str(caught.value)


def test_text_that_is_not_utf8_is_refused():
    with pytest.raises(RequestError, match=r"study, stream\.file = 'caf\\udce9': expected text in UTF-8"):
        check_values({"stream": [{"file": "caf\udce9"}]}, "study")


def test_a_limit_can_be_lifted(tmp_path):
    file = write(tmp_path, top="max_trials = 1")
    with pytest.raises(RequestError, match="max_trials = 2 lifts"):
        read(file)
    assert len(read(file, ["max_trials=2"]).quantizers) == 2


def test_calibration_steps_multiply(tmp_path):
    text = write(tmp_path).read_text().replace("size = 32", "size = [1, 2, 3]")
    step = '{ protocol = "calibration", size = [32, 64, 96] }'
    text = text.replace('protocol = "calibration"\nsize = [1, 2, 3]', f"steps = [{step}, {step}]")
    file = tmp_path / "steps.toml"
    file.write_text("max_trials = 17\n" + text)
    with pytest.raises(RequestError, match=r"18 trials \(2 quantizer x 9 calibration\)"):
        read(file)
    assert len(read(file, ["max_trials=18"]).calibrations) == 9


@pytest.mark.parametrize("text", ["[" * 1200 + "]" * 1200, "9" * 5000, "1979-05-27", "nan"])
def test_overrides_are_looked_at_alike(tmp_path, text):
    with pytest.raises(RequestError):
        read(write(tmp_path), [f"source_images={text}"])


@pytest.mark.parametrize(
    "name",
    [
        *(
            "../../x",
            "/tmp/x",
            "a/b",
            "a\\b",
            "..",
            ".",
            ".hidden",
            "",
            " a",
            "a\n",
            "a\nb",
            "a\0b",
            "\u202eabc",
            "a\u2028b",
        ),
        *("x" * 300, "\N{GRINNING FACE}" * 80, "a\udc80"),
    ],
)
def test_a_name_that_is_no_folders_is_refused(name, tmp_path):
    raw = tomllib.loads(write(tmp_path).read_text())
    with pytest.raises(RequestError, match="name"):
        parse(raw | {"name": name})
    with pytest.raises(RequestError, match="expected a name of 1 to 100 letters"):
        check_name(name, "study")


@pytest.mark.parametrize("name", ["quick", "W4 A4 (second)", "größe", "研究", "a.b", "x" * 100])
def test_a_name_of_letters_is_a_name(name):
    check_name(name, "study")


plain = st.recursive(
    st.none() | st.booleans() | st.text(max_size=3) | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
odd = st.sampled_from([2**63, -(2**63) - 1, math.inf, math.nan, datetime.date(2020, 1, 1), b"x", {1}, 10**5000])


def has_infinity(value):
    if isinstance(value, dict):
        return any(map(has_infinity, value.values()))
    return any(map(has_infinity, value)) if isinstance(value, list) else isinstance(value, float) and math.isinf(value)


@settings(max_examples=40, deadline=None)
@given(plain, odd, st.integers(0, 5))
def test_an_odd_value_is_seen_wherever_it_lies(value, wrong, depth):
    if has_infinity(value):
        value = 0
    check_values({"key": value}, "study")
    for number in range(depth):
        wrong = [value, wrong] if number % 2 else {"inner": wrong, "other": value}
    with pytest.raises(RequestError, match="study, key"):
        check_values({"key": [wrong]}, "study")


def test_the_count_is_the_product():
    check_count({"a": 100, "b": 100}, MOST_TRIALS, "study")
    with pytest.raises(RequestError, match=r"10,100 trials \(100 a x 101 b\)"):
        check_count({"a": 100, "b": 101, "c": 1}, MOST_TRIALS, "study")


def test_a_long_message_keeps_both_ends():
    text = str(RequestError("begin " + "x" * 10**6 + " end"))
    assert len(text) < 2000
    assert text.startswith("begin ")
    assert text.endswith(" end")
