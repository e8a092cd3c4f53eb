import contextlib
import csv
import io
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from _dummies.disk import full_disk
from hypothesis import given
from hypothesis import strategies as st

from evalsuite.errors import RequestError
from evalsuite.files import read_arrays, read_csv, remove_left, replacing, reserve, write_csv, write_json, write_text


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path):
    file = tmp_path / "deep" / "result.json"
    write_json(file, {"a": 1})

    def fail_halfway():
        with replacing(file) as temporary:
            temporary.write_text("half of")
            raise RuntimeError("half")

    with pytest.raises(RuntimeError, match="half"):
        fail_halfway()
    assert json.loads(file.read_text()) == {"a": 1}
    assert list(file.parent.iterdir()) == [file]


def test_a_name_that_is_not_utf8_is_refused_and_a_text_that_is_not_is_escaped(tmp_path):
    odd = os.fsdecode(b"caf\xe9")
    for file in (tmp_path / odd, tmp_path / odd / "a.txt"):
        with pytest.raises(RequestError, match=r"caf\\udce9.*: expected a name in UTF-8"):
            write_text(file, "a")
    assert not list(tmp_path.iterdir())
    write_text(tmp_path / "a.txt", odd)
    assert (tmp_path / "a.txt").read_text() == "caf\\udce9"


def test_nan_is_no_json(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "x.json", float("nan"))
    assert not list(tmp_path.iterdir())


def test_no_cell_is_a_formula_and_numbers_stay(tmp_path):
    table = pd.DataFrame(
        {
            "label": ["=1+1", "plain", "@sum", "-2+3", "+x", "\tx", None],
            "=name": pd.Categorical(["-a", "b", "-a", "b", "b", "b", "b"]),
            "number": [-1.5, 2.0, float("nan"), 0.0, -0.0, 1e300, 3.0],
            "whole": pd.array([-1, 2, None, 4, 5, 6, 7], dtype="Int64"),
        }
    )
    write_csv(tmp_path / "a.csv", table)
    with (tmp_path / "a.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["label", "'=name", "number", "whole"]
    assert [row[0] for row in rows[1:]] == ["'=1+1", "plain", "'@sum", "'-2+3", "'+x", "'\tx", ""]
    assert [row[1] for row in rows[1:3]] == ["'-a", "b"]
    assert [row[2:] for row in rows[1:4]] == [["-1.5", "-1"], ["2.0", "2"], ["", ""]]


@given(
    st.lists(
        st.text(st.sampled_from("=+-@\t\r\n\uff1d,;'\"a 1") | st.characters(codec="utf-8"), max_size=6), min_size=1
    )
)
def test_no_row_that_a_spreadsheet_sees_begins_a_formula(texts):
    with tempfile.TemporaryDirectory() as folder:
        write_csv(Path(folder) / "a.csv", pd.DataFrame({"a": texts, "b": 1.5}))
        content = (Path(folder) / "a.csv").read_bytes().decode()
    assert "\r" not in content  # outside quotes a spreadsheet begins a row there
    rows = list(csv.reader(io.StringIO(content, newline="")))
    assert [len(row) for row in rows] == [2] * (len(texts) + 1)
    for text, (cell, number) in zip(texts, rows[1:], strict=True):
        assert not cell.startswith(tuple("=+-@\t\r\n\uff1d"))
        assert cell.removeprefix("'") == text.replace("\r\n", "\n").replace("\r", "\n").removeprefix("'")
        assert number == "1.5"


@given(st.lists(st.text('=+-@,;"a 1N\uff1d\n', max_size=4) | st.sampled_from(["NA", "null", "nan", "01"]), min_size=1))
def test_a_table_is_read_as_it_was_written(texts):
    table = pd.DataFrame({"a": [text or None for text in texts], "b": [1.5, *[float("nan")] * (len(texts) - 1)]})
    with tempfile.TemporaryDirectory() as folder:
        write_csv(Path(folder) / "a.csv", table)
        read = read_csv(Path(folder) / "a.csv", ["a", "absent"])
    assert [None if pd.isna(cell) else cell for cell in read["a"]] == [text or None for text in texts]
    np.testing.assert_array_equal(read["b"], table["b"])


def test_a_table_without_text_is_what_pandas_writes(tmp_path):
    for table in (pd.DataFrame({"a": [1, 2], "b": [True, False]}), pd.DataFrame(columns=["a", "b"]), pd.DataFrame()):
        write_csv(tmp_path / "a.csv", table)
        assert (tmp_path / "a.csv").read_text() == table.to_csv(index=False)


def test_an_archive_larger_than_expected_is_not_unpacked(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", x=np.zeros(10**7, np.uint8), y=np.arange(3))
    assert read_arrays(tmp_path / "a.npz")["y"].tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match="its arrays take 10,000"):
        read_arrays(tmp_path / "a.npz", 10**6)


def test_damaged_archives_are_a_value_error(tmp_path):
    file = tmp_path / "a.npz"
    np.savez_compressed(file, x=np.arange(100), names=np.array(["a", "b"]))
    content = file.read_bytes()
    expected = read_arrays(file)
    for place in np.random.default_rng(0).integers(0, len(content), 150):
        file.write_bytes(content[:place] + bytes([content[place] ^ 255]) + content[place + 1 :])
        with contextlib.suppress(OSError, ValueError):
            assert all((expected[name] == array).all() for name, array in read_arrays(file).items() if name in expected)
    np.savez(file, x=np.array([{}], dtype=object))
    with pytest.raises(ValueError, match="Object arrays"):
        read_arrays(file)


def test_a_full_disk_is_a_line_and_leaves_the_old_file(tmp_path):
    file = tmp_path / "table.csv"
    write_text(file, "old")
    with full_disk(100), pytest.raises(RequestError, match=r"^cannot write to .*table\.csv: File too large$"):
        write_text(file, "x" * 10_000)
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_what_is_read_meanwhile_keeps_its_own_error(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"absent\.txt"), replacing(tmp_path / "a") as temporary:
        temporary.write_text((tmp_path / "absent.txt").read_text())
    assert not list(tmp_path.iterdir())


def test_room_is_taken_before_memory_is_mapped(tmp_path):
    def make(size):
        with replacing(tmp_path / "images.npy") as temporary:
            pixels = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.uint8, shape=(size,))
            reserve(temporary)
            pixels[:] = 7

    make(10_000)
    assert (tmp_path / "images.npy").stat().st_blocks * 512 >= 10_000
    assert (np.load(tmp_path / "images.npy") == 7).all()
    with full_disk(20_000), pytest.raises(RequestError, match="cannot write"):
        make(1_000_000)


KILLED = """
import os, signal, sys
from pathlib import Path
from evalsuite.files import replacing
with replacing(Path(sys.argv[1])) as temporary:
    temporary.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_process_leaves_is_removed_and_nothing_else(tmp_path):
    tables = tmp_path / "tables"
    for place in (tmp_path, tables):
        done = subprocess.run([sys.executable, "-c", KILLED, str(place / "a.csv")], check=False)
        assert done.returncode == -signal.SIGKILL
    left = [*tmp_path.glob(".a~*.csv"), *tables.glob(".a~*.csv")]
    assert len(left) == 2
    theirs = tmp_path / ".a~00000000-1-abcdefgh.csv"  # of another machine
    kept = [theirs, tmp_path / ".a~b.csv", tmp_path / "~.csv", tables / "b.csv"]
    for file in kept:
        file.write_text("")
    with replacing(tables / "c.csv") as temporary:
        temporary.write_text("of a process that lives")
        remove_left(tmp_path)
        assert temporary.is_file()
    assert not any(file.exists() for file in left)
    assert all(file.is_file() for file in kept)
    os.utime(theirs, (0, 0))
    remove_left(tmp_path)
    assert [file.is_file() for file in kept] == [False, True, True, True]
    remove_left(tmp_path / "absent")
