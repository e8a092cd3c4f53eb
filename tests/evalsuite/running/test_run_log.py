import io
import json
import os

import pytest
from _dummies import plugins
from _dummies.studies import FULL_PRECISION, execute, tiny
from rich.console import Console

from evalsuite import store
from evalsuite.errors import RequestError
from evalsuite.isolation import LONGEST_TRACEBACK, attempt, traceback_of
from evalsuite.running import harness
from evalsuite.running.failure_files import remove_failures, write_failure
from evalsuite.running.failure_limit import FailureLimit, TooManyFailed
from evalsuite.running.options import RunOptions
from evalsuite.running.run_log import LOG, Event, RunLog, Stage
from evalsuite.running.stages import monitor_of, stage
from evalsuite.running.workers import Here
from evalsuite.running.workspace import Workspace


def lines(folder):
    return [json.loads(line) for line in (folder / LOG).read_text(encoding="ascii").splitlines()]


def test_torn_line_of_a_killed_run_spoils_no_other(tmp_path):
    (tmp_path / LOG).write_text('{"time": "2026', encoding="ascii")
    with RunLog(tmp_path) as log:
        log.begin()
    text = (tmp_path / LOG).read_text(encoding="ascii").splitlines()
    assert text[0] == '{"time": "2026'
    assert [json.loads(line)["event"] for line in text[1:]] == ["run started", "run ended"]


@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_log_that_is_no_file_is_left_alone(tmp_path, kind):
    other = tmp_path / "other"
    other.write_text("kept", encoding="utf-8")
    {"link": lambda f: f.symlink_to(other), "pipe": os.mkfifo, "folder": os.mkdir}[kind](tmp_path / LOG)
    with RunLog(tmp_path) as log:
        log.begin()
        log.add(Event.PROGRESS)
    assert other.read_text(encoding="utf-8") == "kept"


def test_traceback_of_a_failed_trial_is_kept_until_it_succeeds(tmp_path, monkeypatch):
    study = tiny(quantizer=[{"method": plugins.SCALED}, {"method": plugins.FAILING}], adapter=[{"method": "none"}])
    execute(study, tmp_path, in_process=False)
    trials = store.load(tmp_path).trials
    failed = set(trials.loc[trials["status"] == "failed", "trial"])
    assert {file.stem for file in (tmp_path / "failures").iterdir()} == failed
    assert len(failed) == 2
    for trial in failed:
        text = (tmp_path / "failures" / f"{trial}.txt").read_text(encoding="utf-8")
        assert text.startswith(f"trial {trial}, quantizing: failed (plugin_error)\nZeroDivisionError: no luck today")
        assert "in calibrate" in text
        assert text.endswith("ZeroDivisionError: no luck\ntoday\n")
    told = [line for line in lines(tmp_path) if line["event"] == "trial failed"]
    assert {line["trial"] for line in told} == failed
    monkeypatch.setattr(plugins.Failing, "calibrate", plugins.Scaled.calibrate)
    assert execute(study, tmp_path).failed == 0
    assert not (tmp_path / "failures").exists()


def test_tracebacks_are_bounded_and_inert():
    def fail():
        raise ValueError("\x1b[31m\u202eevil\u2066" + "x" * 10**6)

    failure = attempt(fail)
    assert len(failure.traceback) <= LONGEST_TRACEBACK
    assert all(line.isprintable() for line in failure.traceback.splitlines())
    assert r"\x1b[31m\u202eevil" in failure.traceback

    class Speechless(Exception):
        def __str__(self):
            raise SystemExit

    assert "Speechless" in traceback_of(Speechless())


def test_failures_are_not_written_through_a_link(tmp_path):
    away, folder = tmp_path / "away", tmp_path / "run"
    away.mkdir()
    folder.mkdir()
    (folder / "failures").symlink_to(away)
    (away / "a.txt").write_text("", encoding="utf-8")
    write_failure(folder, "b", "evaluating", attempt(lambda: 1 / 0))
    remove_failures(folder, ["a"])
    assert [file.name for file in away.iterdir()] == ["a.txt"]


def test_failed_trials_are_left_alone_if_asked(tmp_path):
    study = tiny(quantizer=[{"method": plugins.FAILING}], adapter=[{"method": "none"}])
    assert execute(study, tmp_path).failed == 2
    kept = execute(study, tmp_path, retry_failed=False)
    assert (kept.failed, kept.reused) == (2, len(store.load(tmp_path).trials))
    assert len(list((tmp_path / "failures").iterdir())) == 2
    assert execute(study, tmp_path).reused == kept.reused - 2


def test_run_stops_when_too_many_trials_fail_and_goes_on_later(tmp_path):
    streams = [{"protocol": "continual", "images": 24, "severity": [1, 2, 3, 4, 5], "corruptions": ["fog"]}]
    quantizers = [{"method": plugins.FAILING}, {"method": plugins.SCALED, "levels": [1, 2, 3]}]
    study = tiny(quantizer=quantizers, adapter=[{"method": "none"}], stream=streams)
    stopped = execute(study, tmp_path, max_failures=0.5)
    assert stopped.stopped == "5 of 5 trials that have ended failed, more than a share of 0.5"
    assert (stopped.done, stopped.failed, stopped.left) == (0, 5, 20)
    assert lines(tmp_path)[-1]["status"] == "stopped"
    whole = execute(study, tmp_path)
    assert (whole.done, whole.failed, whole.left, whole.stopped) == (20, 5, 0, "")


def test_limit_of_failures_counts_what_ended_before():
    limit = FailureLimit(8, 1, 0.25)
    limit.add(True)
    with pytest.raises(TooManyFailed, match=r"^3 of 10 "):
        limit.add(True)
    few = FailureLimit(0, 0, 0.0)
    for _ in range(4):
        few.add(True)
    with pytest.raises(TooManyFailed):
        few.add(False)
    with pytest.raises(RequestError, match="max failures"):
        RunOptions(max_failures=1.1)


def nothing(item, workspace, kept):
    pass


def test_console_that_is_no_terminal_hears_how_far_a_stage_is(tmp_path):
    console = Console(file=io.StringIO(), force_terminal=False, width=200)
    with monitor_of(console, RunLog(tmp_path), every=0.0) as monitor:
        list(stage(Stage.EVALUATING, nothing, [[1, 2], [3]], Here(Workspace(tmp_path)), monitor))
    said = console.file.getvalue().splitlines()
    assert [line.split(",")[0] for line in said[:2]] == ["evaluating: 1 of 3 done", "evaluating: 2 of 3 done"]
    assert said[-1].startswith("evaluating: 3 done in ")
    events = [line["event"] for line in lines(tmp_path)]
    assert events.count("progress") == 2
    assert events.count("item ended") == 3


def test_killed_run_is_reported_from_its_records(tmp_path, monkeypatch):
    class Killed(BaseException):
        pass

    wanted = execute(tiny(quantizer=FULL_PRECISION), tmp_path / "whole")

    def killed(*arguments):
        raise Killed

    monkeypatch.setattr(harness, "gather", killed)
    with pytest.raises(Killed):
        execute(tiny(quantizer=FULL_PRECISION), tmp_path / "killed")
    run, whole = store.load(tmp_path / "killed"), store.load(tmp_path / "whole")
    assert not (run.folder / "trials.parquet").exists()
    measured = [name for name in whole.trials if name.endswith(("_seconds", "_bytes"))]
    left, right = run.trials.drop(columns=measured), whole.trials.drop(columns=measured)
    assert left.dtypes.to_dict() == right.dtypes.to_dict()
    assert left.equals(right)
    assert len(right) == wanted.done
    store.record_file(run.folder, left["trial"][1]).unlink()
    assert list(store.load(run.folder).trials["trial"]) == [*left["trial"][:1], *left["trial"][2:]]
    assert len(store.load(run.folder).records) < len(whole.records)
