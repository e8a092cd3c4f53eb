import json
import zlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from evalsuite.checksums import BLANK, KEY, Damaged, append_blank, seal, sealing, verified, verify, verify_once

MARK = BLANK[:-8].encode()


def parquet(file):
    table = pa.table({"x": np.arange(50)})
    pq.write_table(table.replace_schema_metadata({KEY: BLANK, "other": "text"}), file)


def tensors(file):
    save_file({"w": torch.arange(40.0)}, file, {KEY: BLANK, "other": "text"})


def text(file):
    file.write_text(json.dumps({"a": 1, KEY: BLANK, "b": [2] * 20}))


def array(file):
    np.save(file, np.arange(60))
    append_blank(file)


def arrays(file):
    np.savez(file, x=np.arange(30), y=np.ones(3))
    append_blank(file)


KINDS = {"a.parquet": parquet, "a.safetensors": tensors, "a.json": text, "a.npy": array, "a.npz": arrays}
READERS = {
    "a.parquet": lambda file: pq.read_table(file)["x"].to_pylist(),
    "a.safetensors": lambda file: load_file(file)["w"].tolist(),
    "a.json": lambda file: json.loads(file.read_text())["b"],
    "a.npy": lambda file: np.load(file, mmap_mode="r").tolist(),
    "a.npz": lambda file: np.load(file)["x"].tolist(),
}


@pytest.fixture(scope="module", params=KINDS)
def sealed(request, tmp_path_factory):
    file = tmp_path_factory.mktemp("sealed") / request.param
    KINDS[request.param](file)
    before = READERS[request.param](file)
    seal(file)
    assert READERS[request.param](file) == before
    return file


def test_the_digits_are_the_crc_with_zeros_in_their_place(sealed):
    content = sealed.read_bytes()
    place = content.rindex(MARK) + len(MARK)
    digits = content[place : place + 8]
    assert int(digits, 16) == zlib.crc32(content[:place] + b"0" * 8 + content[place + 8 :])
    verify(sealed, required=True)
    reader = verified(sealed)
    assert reader.read() == content
    # Threads of Arrow's must not need Python's lock to read it, or to let go of it, as a program ends.
    assert isinstance(reader, pa.NativeFile)
    assert not isinstance(reader, pa.PythonFile)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_every_flipped_bit_is_noticed(sealed, data):
    content = sealed.read_bytes()
    place, bit = data.draw(st.integers(0, len(content) - 1)), data.draw(st.integers(0, 7))
    file = sealed.with_name("flipped")
    file.write_bytes(content[:place] + bytes([content[place] ^ 1 << bit]) + content[place + 1 :])
    with pytest.raises(Damaged):
        verify(file, required=True)
    start = content.rindex(MARK)
    if not start <= place < start + len(MARK):  # else it reads as a file of an earlier version, whole but for the mark
        with pytest.raises(Damaged):
            verified(file)


def test_what_has_no_checksum_is_taken_unless_one_is_required(tmp_path):
    file = tmp_path / "old"
    for content in (b"", b"old", MARK, MARK + b"123"):
        file.write_bytes(content)
        verify(file)
        with pytest.raises(Damaged, match="no checksum"):
            verify(file, required=True)
        with pytest.raises(ValueError, match="no room"):
            seal(file)


def test_what_has_no_checksum_is_damaged_where_its_content_is_of_a_later_version(tmp_path):
    file = tmp_path / "later"
    file.write_bytes(b"later")
    seen = []
    assert verified(file, lambda content: seen.append(content.read()) is not None).read() == b"later"
    assert seen == [b"later"]
    with pytest.raises(Damaged, match="no checksum"):
        verified(file, lambda content: True)
    file, comment = tmp_path / "a.npz", BLANK.encode()
    arrays(file)
    file.write_bytes(file.read_bytes().replace(comment, b"x" * len(comment)))
    with pytest.raises(Damaged, match="no checksum"):
        verify(file)


def test_the_line_is_found_at_either_end_of_a_large_file(tmp_path):
    file = tmp_path / "large"
    padding = bytes(2**22 + 2**20 + 7)
    for content in (BLANK.encode() + padding, padding + BLANK.encode()):
        file.write_bytes(content)
        seal(file)
        verify(file, required=True)
        with file.open("r+b") as opened:
            opened.seek(2**21)
            opened.write(b"x")
        with pytest.raises(Damaged):
            verify(file)


def test_a_file_is_sealed_before_it_appears(tmp_path):
    with sealing(tmp_path / "a.json") as temporary:
        text(temporary)
        assert not (tmp_path / "a.json").exists()
    verify(tmp_path / "a.json", required=True)
    with pytest.raises(ValueError, match="no room"), sealing(tmp_path / "b.json") as temporary:
        temporary.write_text("{}")
    assert [file.name for file in tmp_path.iterdir()] == ["a.json"]


def test_once_means_until_somebody_writes(tmp_path):
    file = tmp_path / "a.npy"
    array(file)
    seal(file)
    verify_once(file)
    content = file.read_bytes()
    file.write_bytes(content[:200] + b"?" + content[201:])
    with pytest.raises(Damaged):
        verify_once(file)
    with pytest.raises(Damaged):
        verify_once(file)
