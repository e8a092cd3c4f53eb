"""Files as strangers may write them: well-formed on the outside, of any content, as hypothesis draws them.

What :mod:`fuzz` mutates is nearly right; these are built from their formats' parts, with shapes that lie, objects,
members that leave their folder and facts of other types. Each kind comes with the readers that a command has for it.
"""

from __future__ import annotations

import io
import json
import stat
import struct
import traceback
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from hypothesis import strategies as st

from evalsuite import checksums, store
from evalsuite.errors import DamageWarning, RequestError
from evalsuite.plugins import PoolOutputs
from evalsuite.quantization import saving
from evalsuite.running.pool_outputs import kept
from evalsuite.streams import Stream
from evalsuite.study.cost import cost_of
from evalsuite.study.file import read
from evalsuite.tasks._files import load_array, load_checkpoint, load_labels
from evalsuite.tasks.folder import Folder, _Parts
from protocols.replay import Replay
from reports.figures.examples import Examples

Reader = Callable[[Path], Any]
_LONGEST = 2000  # characters of a refusal

NUMBERS = st.sampled_from([0, 1, 2, 3, 5, -1, 10**6, 10**12, 2**31, 2**63 - 1, 2**64, -(2**63)]) | st.integers(0, 12)
NAMES = st.sampled_from(
    [
        "",
        "a",
        "../../outside",
        "/tmp/evalsuite-outside",
        "x.py:Y",
        "os:system",
        "\0",
        "é",
        "=1",
        "rtn",
        "digits/resnet",
        "none",
    ]
) | st.text(max_size=6)
PLAIN = st.none() | st.booleans() | NUMBERS | st.floats() | NAMES
VALUES = st.recursive(
    PLAIN, lambda own: st.lists(own, max_size=3) | st.dictionaries(NAMES, own, max_size=3), max_leaves=6
)
DESCRIPTIONS = st.sampled_from(
    [
        "|u1",
        "<i8",
        "<f4",
        "<f8",
        ">i2",
        "<c8",
        "|O",
        "<U3",
        "|S4",
        "|V8",
        "<M8[s]",
        "|b1",
        "<f2",
        "<U0",
        "",
        "os",
        "<i99",
    ]
) | st.sampled_from([[("a", "|O")], [("a", "<i4"), ("b", "<f8")], {"names": ["a"]}, 5, None])


@st.composite
def npy(draw: st.DrawFn) -> bytes:
    """Return an ``.npy`` file whose header says what it likes; its data are of any length."""
    shape = draw(st.lists(NUMBERS, max_size=4).map(tuple) | st.just((10**12,)) | VALUES)
    header: Any = {"descr": draw(DESCRIPTIONS), "fortran_order": draw(st.booleans()), "shape": shape}
    header |= draw(st.dictionaries(NAMES, PLAIN, max_size=1)) if draw(st.integers(0, 9)) == 0 else {}
    text = (
        repr(header) if draw(st.integers(0, 19)) else draw(st.sampled_from(["__import__('os')", "{" * 500, "[" * 5000]))
    )
    data = text.encode("utf-8", "replace") + b"\n"
    version = draw(st.sampled_from([1, 2, 3, 3, 1, 9]))
    length = struct.pack("<H" if version == 1 else "<I", min(len(data), 65535))
    return (
        b"\x93NUMPY"
        + bytes([version, 0])
        + length
        + data
        + draw(st.binary(max_size=64)) * draw(st.sampled_from([1, 9]))
    )


def arrays(names: list[str]) -> st.SearchStrategy[bytes]:
    """Return an ``.npz`` file with arrays of these names, right ones among them, and others that leave their folder."""
    right = st.tuples(st.integers(0, 4), st.sampled_from(["<i8", "<i4", "<f8", "|u1", "|b1", "<U3", "<i2"])).map(_saved)
    members = st.fixed_dictionaries({name: right | npy() for name in names})
    odd = st.dictionaries(NAMES, npy() | st.binary(max_size=9), max_size=2)
    return st.tuples(members, odd, st.booleans(), st.sampled_from([0, stat.S_IFLNK | 0o777])).map(_zipped)


def _saved(given: tuple[int, str]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.zeros(given[0], given[1]))
    return buffer.getvalue()


def _zipped(given: tuple[dict[str, bytes], dict[str, bytes], bool, int]) -> bytes:
    members, odd, twice, mode = given
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in [*members.items(), *odd.items(), *(list(members.items())[:1] if twice else [])]:
            info = zipfile.ZipInfo(f"{name}.npy".replace("\0", "0") or "a")
            info.external_attr = mode << 16
            archive.writestr(info, content)
    return buffer.getvalue()


@st.composite
def tensors(draw: st.DrawFn) -> bytes:
    """Return a safetensors file: entries of any type, shape and place, facts among which a recipe may be."""
    entry = st.fixed_dictionaries(
        {
            "dtype": st.sampled_from(["F32", "U8", "I64", "F8_E4M3", "BOOL", "X"]) | PLAIN,
            "shape": st.lists(NUMBERS, max_size=3) | PLAIN,
            "data_offsets": st.lists(NUMBERS, min_size=2, max_size=2) | PLAIN,
        }
    )
    header: dict[str, Any] = draw(st.dictionaries(NAMES | st.just("1.weight.packed"), entry | VALUES, max_size=3))
    recipe = {"name": draw(NAMES), "options": draw(VALUES), "bits": draw(VALUES | st.just({"weight_bits": 4}))}
    facts = {"recipe": json.dumps(draw(st.just(recipe) | VALUES)), "seconds": "1", "warnings": "[]"}
    header |= {"__metadata__": draw(st.just(facts) | VALUES)} if draw(st.booleans()) else {"__metadata__": facts}
    text = json.dumps(header).encode()
    length = draw(st.sampled_from([len(text), len(text), len(text) + 1, 2**40, 0]))
    return length.to_bytes(8, "little") + text + draw(st.binary(max_size=64))


COLUMN = st.sampled_from([
    *(pa.array([1, 2], pa.int64()), pa.array([None, 2**62], pa.int64()), pa.array([-1, 300], pa.int32()), pa.nulls(2)),
    *(pa.array(["a", "=b"]), pa.array(["done", "done"]), pa.array(["a", "a"]).dictionary_encode()),
    *(pa.array([0.5, float("nan")]), pa.array([True, None]), pa.array([[1], [2]]), pa.array([b"x", b"y"])),
    pa.array([{"a": 1}, None]),
])  # fmt: skip


def table(schema: pa.Schema) -> st.SearchStrategy[bytes]:
    """Return a Parquet file of a schema's columns, missing, of other types or too many, with any row as metadata."""
    columns = st.fixed_dictionaries({}, optional=dict.fromkeys(schema.names, COLUMN)) | st.fixed_dictionaries(
        dict.fromkeys(schema.names, COLUMN)
    )
    row = st.fixed_dictionaries(
        {"trial": st.just("a") | PLAIN, "status": st.just("done") | PLAIN},
        optional={"warnings": VALUES, "collapsed_at": PLAIN, "reason": PLAIN},
    )
    return st.tuples(columns, st.dictionaries(NAMES.filter(bool), COLUMN, max_size=1), row | VALUES).map(_parquet)


def _parquet(given: tuple[dict[str, Any], dict[str, Any], Any]) -> bytes:
    columns, odd, row = given
    buffer = io.BytesIO()
    content = pa.table({**odd, **columns} or {"a": pa.array([1, 2])})
    pq.write_table(content.replace_schema_metadata({b"evalsuite.trial": json.dumps(row).encode()}), buffer)
    return buffer.getvalue()


def study_json() -> st.SearchStrategy[bytes]:
    """Return a ``study.json`` whose keys are there and whose values are of any type."""
    return st.fixed_dictionaries(dict.fromkeys(store.STUDY_KEYS, VALUES)).map(lambda value: json.dumps(value).encode())


def _toml(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return str(bool(value)).lower()
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(str(k))} = {_toml(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value) if isinstance(value, str) else str(value)


@st.composite
def study_toml(draw: st.DrawFn) -> bytes:
    """Return a study file of known keys with any values, some of them right."""
    tables = {
        "task": ("name", ["digits/resnet", "folder"]), "calibration": ("protocol", ["calibration", "noise"]),
        "quantizer": ("method", ["rtn", "full_precision", "saved_network", "onnx_model", "python_network"]),
        "adapter": ("method", ["none", "tent"]), "stream": ("protocol", ["continual", "replay"]),
    }  # fmt: skip
    options = ["size", "images", "bits", "path", "file", "network", "checkpoint", "steps", "severity", "lr"]
    keys = ["seeds", "source_images", "tasks", "max_trials", "exclude", "gate", "analysis", "corruption"]
    lines = [f"name = {_toml(draw(st.just('x') | NAMES))}"]
    lines += [
        f"{key} = {_toml(draw(VALUES))}" for key in draw(st.lists(st.sampled_from(keys), max_size=3, unique=True))
    ]
    for name, (key, known) in tables.items():
        lines += [f"[[{name}]]", f"{key} = {_toml(draw(st.sampled_from(known) | VALUES))}"]
        for option in draw(st.lists(st.sampled_from(options), max_size=2, unique=True)):
            lines.append(f"{option} = {_toml(draw(VALUES))}")
    return "\n".join(lines).encode("utf-8", "replace")


def csv_groups() -> st.SearchStrategy[bytes]:
    """Return a CSV file of groups."""
    cell = st.sampled_from(["c0/000.png", "c1/001.png", "file", "site", "", '"', "=1", "é", "1e999", "\0"]) | st.text(
        max_size=3
    )
    rows = st.lists(st.lists(cell, max_size=3).map(",".join), max_size=5).map("\n".join)
    return (rows.map(lambda text: "file,site\n" + text) | rows).map(
        lambda text: text.encode("utf-8", "replace")
    ) | st.binary()


_MODEL = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48, 3)).eval()


def _never() -> PoolOutputs:
    return PoolOutputs(np.ones((4, 3), np.float32), np.ones((4, 5), np.float32))


def _stream(file: Path) -> Any:
    stream = Stream.load(file)
    return Replay(str(file)).plan(np.zeros(5, np.int64), np.random.default_rng(0)), stream


def _run(file: Path) -> store.Run:
    return store.Run(file.parents[1] if file.parent.name == "records" else file.parent)


_FOLDER = Folder("set", "_:_", groups="groups.csv")
_NAMES = ["c0/000.png", "c1/001.png"]
_PARTS = _Parts(("c0", "c1"), _NAMES, _NAMES, [], np.arange(2), [], np.arange(0))


FILES: dict[str, tuple[st.SearchStrategy[bytes], list[Reader]]] = {
    "a.npy": (npy(), [lambda file: load_array(file, (None, 4, 4, 3), "images"), lambda file: load_labels(file, 5, 3)]),
    "stream.npz": (arrays(["image", "domain", "starts", "resets", "names", "severities", "collapse"]), [_stream]),
    "outputs.npz": (arrays(["logits", "features"]), [lambda file: kept(file, 4, _never)]),
    "a.safetensors": (
        tensors(),
        [load_checkpoint, lambda file: saving.load(file, _MODEL, torch.zeros(1, 3, 4, 4)), saving.read_facts],
    ),
    "run/records/a.parquet": (
        table(store.RECORD_SCHEMA),
        [lambda file: _run(file).records_of("a").to_pandas(), lambda file: store.read_rows(file.parents[1])],
    ),
    "run/trials.parquet": (table(store.TRIAL_SCHEMA), [lambda file: _run(file).trials]),
    "run/study.json": (study_json(), [lambda file: _run(file).study]),
    "run/examples.npz": (arrays(["images", "labels", "domains", "tasks"]), [lambda file: Examples().data(_run(file))]),
    "photos/groups.csv": (csv_groups(), [lambda file: _FOLDER._groups(str(file.parent), _PARTS)]),
    "study.toml": (study_toml(), [lambda file: cost_of(read(file))]),
}
"""By name of a file: what it may hold, and what reads it."""

ALLOWED = (RequestError, DamageWarning, checksums.Damaged)


@contextmanager
def damage_is_an_error() -> Iterator[None]:
    """Turn the warning that something is made again into an exception."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", DamageWarning)
        yield


def attempt(name: str, content: bytes, folder: Path) -> Iterator[str]:
    """Put a file into an empty folder, read it as a command does, and yield what should not have happened.

    That is an error other than a refusal, one of more than a line or of 2,000 characters, and a file beside it.
    """
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    for number, reader in enumerate(FILES[name][1]):
        try:
            reader(file)
        except ALLOWED as error:
            if len(str(error)) > _LONGEST or "\n" in str(error):
                yield f"{name}, reader {number}: a refusal of {len(str(error))} characters"
        except BaseException as error:  # what is looked for
            if isinstance(error, KeyboardInterrupt):
                raise
            where = traceback.extract_tb(error.__traceback__)[-1]
            place = f"{Path(where.filename).name}:{where.lineno}"
            yield f"{name}, reader {number}: {type(error).__name__} at {place}: {error}"
        if name != "outputs.npz" and file.read_bytes() != content:
            yield f"{name}, reader {number}: the file was changed"
    beside = [one for one in (*folder.parent.rglob("*outside*"), Path("/tmp/evalsuite-outside")) if one.exists()]
    if beside:
        yield f"{name}: {beside[0]} was written"
