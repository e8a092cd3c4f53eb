import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evalsuite.running.log_reader import LogReader, parsed

TIME = "2026-01-02T03:04:05.678+00:00"
NAMES = ("time", "event", "stage", "trial", "what", "seconds", "process", "items")
JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(), lambda inner: st.lists(inner, max_size=3)
)


@given(st.dictionaries(st.sampled_from(NAMES), JSON))
def test_a_line_is_printable_and_of_the_right_types_or_none(facts):
    line = parsed(json.dumps({"time": TIME, "event": "progress"} | facts).encode())
    if line is not None:
        texts = [value for value in line.facts().values() if isinstance(value, str)]
        assert all(text.isprintable() and len(text) <= 300 for text in texts)
        assert line.seconds is None or line.seconds >= 0
        assert line.process is None or type(line.process) is int
        assert isinstance(line.timestamp(), float)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_line_or_none(content):
    parsed(content)


@pytest.mark.parametrize(
    "content", [b"[" * 30_000, b'{"time": "now"}', b"{}", b"null", b"\xff", b'{"time": "2026-01-01", "event": "x"}']
)
def test_what_is_no_line_is_passed_over(content):
    assert parsed(content) is None


@settings(max_examples=50)
@given(st.lists(st.booleans(), max_size=8), st.data())
def test_each_whole_line_is_read_once_however_the_file_grows(tmp_path_factory, sound, data):
    file = tmp_path_factory.mktemp("log") / "log.jsonl"
    lines = [
        json.dumps({"time": TIME, "event": f"e{number}"}).encode() if good else b'{"time": \xff'
        for number, good in enumerate(sound)
    ]
    content = b"".join(line + b"\n" for line in lines)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(content)), max_size=4)))
    reader, read = LogReader(file), []
    for cut in [*cuts, len(content)]:
        file.write_bytes(content[:cut])
        read += [line.event for line in reader.new()]
    assert read == [f"e{number}" for number, good in enumerate(sound) if good]


def test_endless_line_is_passed_over(tmp_path):
    file = tmp_path / "log.jsonl"
    good = json.dumps({"time": TIME, "event": "progress"}).encode()
    for length in (2**16 - 1, 2**16, 3 * 2**16, 200_000):
        file.write_bytes(b"x" * length + b"\n" + good + b"\n")
        assert [line.event for line in LogReader(file).new()] == ["progress"], length
