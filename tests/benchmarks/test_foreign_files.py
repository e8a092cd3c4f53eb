"""The short version of ``benchmarks/fuzz.py --minutes`` and ``benchmarks/flips.py``, and files that once went wrong."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

import benchmarks


@pytest.fixture(scope="module")
def scripts():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(benchmarks.__path__[0]))
        import flips
        import foreign_files

        yield foreign_files, flips


def npy(descr: str, shape: tuple[int, ...], data: bytes = b"") -> bytes:
    """Return an ``.npy`` file whose header says this."""
    header = repr({"descr": descr, "fortran_order": False, "shape": shape}).encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data


def tensors(facts: dict[str, str]) -> bytes:
    """Return a safetensors file of one small tensor and these facts."""
    header = json.dumps({"__metadata__": facts, "w": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}}).encode()
    return len(header).to_bytes(8, "little") + header + b"\0"


RECIPE = {"name": "python_network", "options": {"path": "/tmp/evalsuite-outside.py:net"}, "bits": {"weight_bits": 8}}
CORPUS = [
    ("a.npy", npy("|u1", (10**12,))),
    ("a.npy", npy("|O", (1,), b"cos\nsystem\n(S'touch /tmp/evalsuite-outside'\ntR.")),
    ("a.npy", npy("|u1", (2**63 - 1, 2**63 - 1))),
    ("a.safetensors", tensors({"recipe": json.dumps(RECIPE)})),
    ("a.safetensors", tensors({"recipe": "[" * 5000})),
    ("a.safetensors", (2**40).to_bytes(8, "little") + b"{}"),
    ("study.toml", b'name = "x"\ntasks = ["/tmp/evalsuite-outside.py:T"]\n'),
    ("study.toml", b'name = "../../outside"\ntasks = ["digits/resnet"]\n'),
    ("run/study.json", b'{"name": "\\udce9"}'),
    ("photos/groups.csv", b"file,site\nc0/000.png,caf\xe9\n"),
]


@pytest.mark.parametrize("number", range(len(CORPUS)))
def test_files_that_lie_are_read_or_refused_in_a_line(number, scripts, tmp_path):
    name, content = CORPUS[number]
    assert list(scripts[0].attempt(name, content, tmp_path / "in" / "it")) == []


KINDS = ["a.npy", "stream.npz", "a.safetensors", "run/records/a.parquet", "run/trials.parquet", "run/study.json"]


@pytest.mark.parametrize("name", [*KINDS, "study.toml"])
def test_files_as_strangers_may_write_them(name, scripts, tmp_path_factory):
    strategy = scripts[0].FILES[name][0]

    @settings(max_examples=15, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(strategy)
    def each(content):
        folder = tmp_path_factory.mktemp("drawn") / "in" / "it"
        assert list(scripts[0].attempt(name, content, folder)) == []

    with scripts[0].damage_is_an_error():
        each()


def test_a_flipped_bit_changes_no_number(scripts, tmp_path):
    _, flips = scripts
    quiet = flips.Undisturbed.of(flips.small_study(), tmp_path / "quiet")
    counts = flips.flips(quiet, 6, np.random.default_rng(7), tmp_path)
    assert {outcome for _, outcome in counts} <= set(flips.GOOD)
    assert {kind for kind, _ in counts} == set(flips.KINDS)
