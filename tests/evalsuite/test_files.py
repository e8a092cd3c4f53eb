import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from _dummies.disk import full_disk

from evalsuite.errors import RequestError
from evalsuite.files import remove_left, replacing, reserve, write_json, write_text


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


def test_nan_is_no_json(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "x.json", float("nan"))
    assert not list(tmp_path.iterdir())


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
