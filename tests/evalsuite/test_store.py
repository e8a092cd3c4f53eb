import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from _dummies.runs import NO_STUDY, make_run

from evalsuite import checksums, store
from evalsuite.errors import DamageWarning, RequestError
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
        "brier": np.full(n, 0.4, np.float32),
        **extra,
    }


def row(name, status="done", **extra):
    return {"trial": name, "status": status, "reason": "", **extra}


def test_what_is_written_is_read(tmp_path):
    study = NO_STUDY | {"name": "s"}
    write_json(tmp_path / "study.json", study)
    store.write_trial(tmp_path, row("a" * 16, error=1.0), columns(group=np.arange(4)))
    store.write_trial(tmp_path, row("b" * 16, "refused", error=None))
    rows = store.read_rows(tmp_path)
    assert rows["b" * 16]["status"] == "refused"
    store.write_trials(tmp_path, list(rows.values()))
    run = store.load(tmp_path)
    assert run.study == study
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


def test_parts_of_records_are_the_whole(tmp_path):
    whole = columns(5, group=np.arange(5), **{name: np.arange(5) for name in ("label",)})
    store.write_trial(tmp_path / "whole", row("a"), whole)
    parts = [{name: values[start : start + 2] for name, values in whole.items()} for start in (0, 2, 4)]
    store.write_trial(tmp_path / "parts", row("a"), iter(parts))
    one, other = (pq.read_table(store.record_file(tmp_path / name, "a")) for name in ("whole", "parts"))
    assert one.to_pydict() == other.to_pydict()
    assert one.schema.equals(other.schema)
    assert store.read_rows(tmp_path / "parts") == store.read_rows(tmp_path / "whole")


def test_damaged_record_counts_for_nothing(tmp_path):
    store.write_trial(tmp_path, row("a"), columns())
    file = tmp_path / "records" / "a.parquet"
    file.write_bytes(file.read_bytes()[:-20])
    store.write_trial(tmp_path, row("b"), columns())
    with pytest.warns(DamageWarning, match=r"a\.parquet is damaged \(.*: its trial is run again"):
        assert list(store.read_rows(tmp_path)) == ["b"]


@pytest.mark.parametrize("name", ["study.json", "trials.parquet", "records/a.parquet"])
def test_flipped_bits_are_never_believed(tmp_path, name):
    store.write_study(tmp_path, NO_STUDY | {"name": "s"})
    store.write_trial(tmp_path, row("a"), columns())
    store.write_trials(tmp_path, [row("a")])
    intact = store.load(tmp_path)
    file = tmp_path / name
    content = file.read_bytes()
    for place in np.random.default_rng(0).integers(0, len(content), 40):
        file.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        run = store.load(tmp_path)
        try:
            read = run.study, run.trials, run.records
        except RequestError as error:
            named = name in str(error) and "run again" in str(error)
            assert named, error  # noqa: PT017 - the other outcome is as good
        else:
            assert read[0] == intact.study
            pd.testing.assert_frame_equal(read[1], intact.trials)
            pd.testing.assert_frame_equal(read[2], intact.records)


def test_a_run_without_checksums_is_read(tmp_path):
    folder = make_run(tmp_path, tasks=["a"], adapters=["none"], streams=["usual"], domains=["fog"], images=10)
    before = store.load(folder)
    for file in [folder / "trials.parquet", *(folder / "records").iterdir()]:
        table = pq.read_table(file)
        kept = {key: value for key, value in table.schema.metadata.items() if key != b"checksum"}
        later = {"batch", "reset", "round", "reason_code", "collapsed_at"} & {*table.schema.names}
        pq.write_table(table.replace_schema_metadata(kept).drop_columns([*later]), file)
        assert b"evalsuite.crc32" not in file.read_bytes()
    after = store.load(folder)
    later = ["batch", "reset", "round"]
    pd.testing.assert_frame_equal(after.records.drop(columns=later), before.records.drop(columns=later))
    assert len(store.read_rows(folder)) == len(before.trials)


def read_one(run, stem):
    return {"trials": lambda: run.trials, "study": lambda: run.study}.get(stem, lambda: run.records_of(stem))()


@pytest.mark.parametrize("damage", [*range(0, 16, 3), "mark", "all that is named"])
def test_a_checksum_that_is_damaged_itself_makes_no_file_an_older_one(damage, tmp_path):
    """A flipped bit in its mark, the mark overwritten, or no trace of it in a file that has later columns."""
    folder = make_run(tmp_path, tasks=["a"], adapters=["none"], streams=["usual"], domains=["fog"], images=4)
    mark = checksums.BLANK[:-8].encode()
    for file in [folder / "trials.parquet", folder / "study.json", next((folder / "records").iterdir())]:
        content = file.read_bytes()
        if damage == "mark":
            content = content.replace(mark, b"x" * 16)
        elif damage != "all that is named":
            start = content.rindex(mark) + damage
            content = content[:start] + bytes([content[start] ^ 1]) + content[start + 1 :]
        elif file.suffix == ".parquet":
            content = content.replace(mark, b"x" * 16).replace(b"checksum", b"chequers")
        file.write_bytes(content)
        if damage == "all that is named" and file.suffix != ".parquet":
            continue
        with pytest.raises(RequestError, match=rf"{file.name}.*it has no checksum"):
            read_one(store.load(folder), file.stem)
        if file.parent.name == "records":
            with pytest.warns(DamageWarning, match="its trial is run again"):
                assert file.stem not in store.read_rows(folder)


def test_a_folder_that_is_no_run(tmp_path):
    with pytest.raises(RequestError, match=r"expected a file study\.json"):
        store.load(tmp_path)


def test_every_fixed_column_is_written_whatever_occurs(tmp_path):
    for name, rows in (
        ("none", []),
        ("failed", [row("a", "failed")]),
        ("full", [row("a", error=0.5, bits="FP32")]),
        ("both", [row("a", error=0.5), row("b", weight_bits=4, per_channel=True, images=9) | {"stream.x": 1}]),
    ):
        store.write_trials(tmp_path / name, rows)
        schema = pq.read_schema(tmp_path / name / "trials.parquet")
        fixed = store.TRIAL_SCHEMA
        assert pa.schema(list(schema)[: len(fixed)]) == fixed
        assert schema.names[len(fixed) :] == (["stream.x"] if name == "both" else [])
    trials = store.Run(tmp_path / "both").trials
    assert trials["weight_bits"].tolist() == [pd.NA, 4]
    assert trials["per_channel"].tolist() == [pd.NA, True]
    assert trials["error"].isna().tolist() == [False, True]
    assert trials["warnings"].dropna().str.split("; ").empty
    assert {str(trials[name].dtype) for name in ("images", "stream.x", "seed")} == {"Int64"}


def test_what_was_read_can_be_written_again(tmp_path):
    store.write_trials(tmp_path / "x", [row("a", weight_bits=4, per_channel=False), row("b", images=3, error=0.5)])
    trials = store.Run(tmp_path / "x").trials
    store.write_trials(tmp_path / "y", trials.to_dict("records"))
    pd.testing.assert_frame_equal(store.Run(tmp_path / "y").trials, trials)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["fast", 3], ['"fast"', "3"]),
        ([True, 3], ["true", "3"]),
        ([2**70, None], [str(2**70), None]),
        ([1, 2.5], [1.0, 2.5]),
        (["fast", "slow"], ["fast", "slow"]),
        ([True, None], [True, None]),
        ([1, None], [1, None]),
    ],
)
def test_options_of_mixed_type_become_canonical_json(tmp_path, values, expected):
    rows = [row(str(index)) | {"quantizer.levels": value} for index, value in enumerate(values)]
    store.write_trials(tmp_path, rows)
    read = store.Run(tmp_path).trials["quantizer.levels"]
    assert [None if pd.isna(value) else value for value in read] == expected


def broken(content, file):
    if content is None:
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:-20] if content == "truncated" else content)


@pytest.fixture
def folder(tmp_path):
    return make_run(tmp_path, tasks=["a"], adapters=["none"], streams=["usual"], domains=["fog"], images=10)


@pytest.mark.parametrize(
    ("content", "told"), [("truncated", "Unterminated string"), (b"", "char 0"), (b"{}", "it has no name, title")]
)
def test_a_broken_study_file_is_named(folder, content, told):
    broken(content, folder / "study.json")
    with pytest.raises(RequestError, match=rf"study\.json is not a whole study file \(.*({told}).*; run again"):
        _ = store.load(folder).study


@pytest.mark.parametrize("content", ["truncated", b""])
def test_a_broken_table_of_trials_is_named(folder, content):
    broken(content, folder / "trials.parquet")
    with pytest.raises(RequestError, match=r"trials\.parquet is not a whole table of trials \(.*; run again"):
        _ = store.load(folder).trials


def test_a_table_of_trials_without_a_column_is_refused(folder):
    file = folder / "trials.parquet"
    pd.read_parquet(file).drop(columns=["status", "warnings", "reason_code"]).to_parquet(file)
    with pytest.raises(RequestError, match=r"it has no status, warnings\); run again"):
        _ = store.load(folder).trials


@pytest.mark.parametrize("content", ["truncated", b"", None])
@pytest.mark.parametrize("read", [lambda run, trial: run.records, lambda run, trial: run.records_of(trial, ["image"])])
def test_a_broken_record_file_is_named(folder, content, read):
    run = store.load(folder)
    trial = run.trials["trial"].iloc[1]
    broken(content, folder / "records" / f"{trial}.parquet")
    told = "is missing: expected a whole record file; run again"
    told = told if content is None else r"is not a whole record file \(.*\); run again"
    with pytest.raises(RequestError, match=rf"{trial}\.parquet {told}"):
        read(run, trial)


def test_records_of_a_trial_by_column(folder):
    run = store.load(folder)
    trial = run.trials["trial"].iloc[0]
    assert run.records_of(trial).num_rows == 10
    assert run.records_of(trial, ["label", "image"]).column_names == ["label", "image"]
    with pytest.raises(RequestError, match=r"it has no colour\)"):
        run.records_of(trial, ["colour"])
