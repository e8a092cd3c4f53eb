import shutil
from pathlib import Path

import pandas as pd
import pytest
from _dummies import plugins
from _dummies.disk import full_disk
from _dummies.studies import FULL_PRECISION, execute, tiny
from rich.console import Console

from evalsuite import store
from evalsuite.errors import DamageWarning, RequestError
from evalsuite.running import harness


def test_failure_and_refusal_are_rows_and_stop_nothing(tmp_path):
    study = tiny(
        quantizer=[{"method": plugins.SCALED}, {"method": plugins.FAILING}],
        adapter=[{"method": ["none", plugins.REFUSING]}],
    )
    outcome = execute(study, tmp_path)
    trials = store.load(tmp_path).trials
    failed = trials[trials["quantizer"] == plugins.FAILING]
    assert set(failed["status"]) == {"failed"}
    assert failed["reason"].str.match(r"ZeroDivisionError: no luck today \(plugins\.py:\d+\)").all()
    refused = trials[(trials["adapter"] == plugins.REFUSING) & (trials["quantizer"] != plugins.FAILING)]
    assert set(refused["status"]) == {"refused"}
    assert set(refused["reason"]) == {"this adapter applies to nothing"}
    assert set(failed["reason_code"]) == {"plugin_error"}
    assert set(refused["reason_code"]) == {"not_applicable"}
    assert set(trials.loc[trials["status"] == "done", "reason_code"]) == {""}
    assert (outcome.done, outcome.refused, outcome.failed) == (4, 2, 4)
    assert execute(study, tmp_path).reused == 6, "failed trials are tried again, others are not"


def test_corruption_that_fails_costs_only_the_trials_that_need_it(tmp_path, monkeypatch):
    from evalsuite.running import domain_images

    def broken(images, name, severity, **options):
        if name == "contrast":
            raise FloatingPointError("no contrast")
        return images

    monkeypatch.setattr(domain_images, "corrupt", broken)
    streams = [{"protocol": "continual", "images": 24, "corruptions": [["contrast"], ["fog"]]}]
    outcome = execute(tiny(stream=streams, adapter=[{"method": "none"}]), tmp_path)
    assert (outcome.done, outcome.failed) == (3, 3)
    reasons = set(store.load(tmp_path).trials["reason"])
    assert any("FloatingPointError: no contrast" in reason for reason in reasons)


def test_plan_that_fails_costs_only_its_own_trials(tmp_path):
    good = {"protocol": "continual", "images": 24, "corruptions": ["contrast"]}
    study = tiny(stream=[good, {"protocol": "_dummies.plugins:Aimless"}], adapter=[{"method": "none"}])
    outcome = execute(study, tmp_path)
    assert (outcome.done, outcome.failed) == (3, 3)
    assert any("IndexError: no plan" in reason for reason in store.load(tmp_path).trials["reason"])


HOSTILE = f"{Path(__file__).parents[3] / 'benchmarks' / 'hostile.py'}:Hostile"


# Not "labels": it zeroes every task's arrays in the process, which here is that of all tests.
SOFT = [
    *("seeds", "variables", "folder", "double", "strict_warnings", "settings", "hook", "patches", "exit_0"),
    *("exit_7", "interrupt", "generator_exit", "foreign", "speechless", "surrogate", "long", "recursion"),
    *("nan", "row_missing", "listed", "complex", "nothing_returned", "question"),
]


HARD = ["hard_exit", "fork", "folder", "labels", "speechless"]


@pytest.mark.parametrize(("modes", "in_process"), [(SOFT, True), (HARD, False)])
def test_hostile_plugins_cost_their_own_trials_and_no_other(finished, tmp_path, monkeypatch, modes, in_process):
    monkeypatch.chdir(tmp_path)
    stream = {"protocol": "continual", "images": 24, "batch_size": 7, "severity": 1}
    stream["corruptions"] = ["gaussian_noise", "contrast", "brightness"]
    adapters = [{"method": HOSTILE, "mode": modes}, {"method": ["none", plugins.DRIFTING]}]
    study = tiny(adapter=adapters, quantizer=FULL_PRECISION, stream=[stream])
    outcome = execute(study, "run", in_process=in_process)
    run = store.load(tmp_path / "run")
    assert len(run.trials) == len(modes) + 2
    honest = run.trials[run.trials["adapter"] != HOSTILE]
    assert set(honest["status"]) == {"done"}
    for trial in honest["trial"]:
        assert run.records_of(trial).equals(finished.records_of(trial))
    hostile = run.trials[run.trials["adapter"] == HOSTILE].set_index("adapter.mode")
    harmless = {"seeds", "variables", "folder", "double", "strict_warnings", "settings", "hook", "patches"}
    assert set(hostile.index[hostile["status"] == "done"]) <= harmless
    assert {"seeds", "variables", "folder"} & set(modes) <= set(hostile.index[hostile["status"] == "done"])
    assert outcome.failed == len(modes) - (hostile["status"] == "done").sum()
    assert hostile["reason"].map(lambda reason: len(reason) <= 1200 and reason.isprintable()).all()
    assert (hostile.loc[hostile["status"] == "failed", "reason"] != "").all()


def test_trials_whose_records_vanish_have_failed(tmp_path, monkeypatch):
    write, written = store.write_trial, []

    def vanish(folder, row, records=None):
        write(folder, row, records)
        written.append(row["trial"])
        if len(written) == 5:
            shutil.rmtree(folder / "records")

    monkeypatch.setattr(store, "write_trial", vanish)
    outcome = execute(tiny(), tmp_path)
    assert (outcome.done, outcome.failed) == (7, 5)
    trials = store.load(tmp_path).trials
    lost = trials[trials["status"] == "failed"]
    assert set(lost["trial"]) == set(written[:5])
    assert lost["reason"].str.contains("its record is not in .*records: it was removed").all()
    assert set(lost["reason_code"]) == {"record_missing"}
    monkeypatch.undo()
    again = execute(tiny(), tmp_path)
    assert (again.done, again.reused) == (12, 7)


def test_reasons_survive_a_disk_that_is_full_of_records(tmp_path):
    study = tiny(adapter=[{"method": "none"}], quantizer=FULL_PRECISION)
    execute(study, tmp_path)  # so that all but the records lies on the disk
    shutil.rmtree(tmp_path / "records")
    before = (tmp_path / "trials.parquet").read_bytes()
    with full_disk(3000), pytest.raises(RequestError, match="cannot write to"):
        execute(study, tmp_path)
    assert (tmp_path / "trials.parquet").read_bytes() == before
    assert not [file for file in tmp_path.rglob(".*~*") if file.is_file()]


def test_broken_intermediate_files_are_made_again(finished, tmp_path):
    execute(tiny(), tmp_path)
    damaged = [*(tmp_path / ".work").rglob("*.safetensors"), *(tmp_path / ".work").rglob("*.npy")]
    damaged += [*(tmp_path / "records").iterdir(), tmp_path / "study.json"]
    for number, file in enumerate(damaged):
        content = file.read_bytes()
        middle = len(content) // 2
        flipped = content[:middle] + bytes([content[middle] ^ 4]) + content[middle + 1 :]
        file.write_bytes(content[:50] if number % 2 else flipped)
    with pytest.warns(DamageWarning) as caught:
        assert execute(tiny(), tmp_path).done == 12
    for file in damaged:
        assert any(str(warning.message).startswith(f"{file} is damaged") for warning in caught), file
    pd.testing.assert_frame_equal(store.load(tmp_path).records, finished.records, check_exact=True)


def test_examples_that_cannot_be_kept_cost_no_trial_and_a_line_says_so(tmp_path, monkeypatch, capsys):
    def broken(*arguments):
        raise FloatingPointError("no picture")

    monkeypatch.setattr(harness, "keep_examples", broken)
    study = tiny(adapter=[{"method": "none"}], quantizer=FULL_PRECISION)
    console = Console(stderr=True, force_terminal=False)
    outcome = harness.execute(study, tmp_path, device="cpu", console=console, in_process=True)
    assert outcome.failed == 0
    assert "the report will show no example images: FloatingPointError: no picture" in capsys.readouterr().err
