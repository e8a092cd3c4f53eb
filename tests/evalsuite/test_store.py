import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from evalsuite import store
from evalsuite.errors import RequestError
from evalsuite.files import write_json


def columns(n=4, **extra):
    return {
        "image": np.arange(n, dtype=np.int32),
        "position": np.arange(n, dtype=np.int32),
        "domain": pa.array(["fog"] * n).dictionary_encode(),
        "family": pa.array(["weather"] * n).dictionary_encode(),
        "severity": np.full(n, 5, np.int8),
        "label": np.zeros(n, np.int32),
        "prediction": np.ones(n, np.int32),
        "confidence": np.full(n, 0.5, np.float32),
        "loss": np.full(n, 0.7, np.float32),
        **extra,
    }


def row(name, status="done", **extra):
    return {"trial": name, "status": status, "reason": "", **extra}


def test_what_is_written_is_read(tmp_path):
    write_json(tmp_path / "study.json", {"name": "s"})
    store.write_trial(tmp_path, row("a" * 16, error=1.0), columns(group=np.arange(4)))
    store.write_trial(tmp_path, row("b" * 16, "refused", error=None))
    rows = store.read_rows(tmp_path)
    assert rows["b" * 16]["status"] == "refused"
    store.write_trials(tmp_path, list(rows.values()))
    run = store.load(tmp_path)
    assert run.study == {"name": "s"}
    assert list(run.trials["status"]) == ["done", "refused"]
    assert len(run.records) == 4
    assert run.records["trial"].unique().tolist() == ["a" * 16]
    assert run.records["group"].tolist() == [0, 1, 2, 3]
    assert isinstance(run.records["domain"].dtype, pd.CategoricalDtype)


def test_no_finished_trial_gives_no_records(tmp_path):
    write_json(tmp_path / "study.json", {})
    store.write_trials(tmp_path, [row("a", "failed")])
    assert store.load(tmp_path).records.empty


def test_same_records_same_bytes(tmp_path):
    for folder in ("x", "y"):
        store.write_trial(tmp_path / folder, row("a"), columns())
    first, second = ((tmp_path / f / "records" / "a.parquet").read_bytes() for f in ("x", "y"))
    assert first == second


def test_truncated_record_file_is_named(tmp_path):
    store.write_trial(tmp_path, row("a"), columns())
    file = tmp_path / "records" / "a.parquet"
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(RequestError, match=r"a\.parquet is not a whole record file"):
        store.read_rows(tmp_path)


def test_a_folder_that_is_no_run(tmp_path):
    with pytest.raises(RequestError, match=r"expected a file study\.json"):
        store.load(tmp_path)
