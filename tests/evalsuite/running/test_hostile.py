"""A quantizer of a user's file that misbehaves costs its own rows, with the reason, and nothing else."""

import tempfile
from pathlib import Path

import pytest
from _dummies import hostile
from _dummies.studies import tiny
from rich.console import Console

from evalsuite import store
from evalsuite.running import harness
from evalsuite.running.foreign import runs_a_file
from evalsuite.running.guardian import TOKEN

HOSTILE = f"{Path(hostile.__file__)}:Hostile"
BASELINES = [{"method": "full_precision"}, {"method": "rtn", "bits": "W4A4"}]
STREAM = {"protocol": "continual", "images": 24, "batch_size": 7, "severity": 1, "corruptions": ["contrast", "clean"]}
COSTS = {
    "raises": ("plugin_error", "KeyError: 'layer'"),
    "exits": ("plugin_error", "SystemExit: 0"),
    "ends": ("worker_died", "its process ended with exit code 0; tried again alone, it did so again"),
    "hangs": ("time_limit", "no result within the time limit of 8 s (--time-limit)"),
    "hoards": ("memory", "more than the memory limit of 1 GB (--memory-limit or --memory)"),
    "nan": ("plugin_error", "logits are not finite"),
    "shape": ("wrong_request", "logits of 2 classes; expected at least 3"),
    "thread": ("left_running", "it left a thread"),
}
DONE = ("forges", "junk", "settings", "program")
"""These give numbers of their own, and harm nobody else's."""


def study(modes=(), folder=""):
    chosen = [{"method": HOSTILE, "mode": list(modes), "run": str(folder), "bits": "W4A4"}] if modes else []
    adapters = [{"method": ["none", "_dummies.plugins:Drifting"]}]
    return tiny(quantizer=[*chosen, *BASELINES], adapter=[{"method": "none"}] if modes else adapters, stream=[STREAM])


@pytest.fixture(scope="module")
def quiet(tmp_path_factory):
    folder = tmp_path_factory.mktemp("quiet")
    harness.run(study(), folder, device="cpu", in_process=True)
    return store.load(folder)


def marked(temporary):
    """Yield the processes that this run's workers have started, by their environment: other tests have workers too."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            environment = (folder / "environ").read_bytes()
        except OSError:
            continue
        if f"{TOKEN}=".encode() in environment and str(temporary).encode() in environment:
            yield folder.name


def check(run, quiet):
    baselines = run.trials[run.trials["quantizer"] != HOSTILE]
    assert len(baselines) == 2
    assert set(baselines["status"]) == {"done"}
    for trial, error in zip(baselines["trial"], baselines["error"], strict=True):
        assert run.records_of(trial).equals(quiet.records_of(trial))
        assert error == quiet.trials.set_index("trial").loc[trial, "error"]
    assert run.study["name"] == "tiny"


@pytest.mark.filterwarnings("ignore::evalsuite.errors.DamageWarning")  # of what it writes where records are
def test_each_costs_its_own_rows_and_leaves_nothing(quiet, tmp_path, tmp_path_factory, monkeypatch):
    temporary = tmp_path_factory.mktemp("temporary")  # other tests write to the machine's meanwhile
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    limits = {"time_limit": 8, "memory_limit": 1}
    chosen, console = study([*COSTS, *DONE], tmp_path), Console(quiet=True)
    outcome = harness.execute(chosen, tmp_path, 1, device="cpu", console=console, **limits)
    run = store.load(tmp_path)
    check(run, quiet)
    rows = run.trials[run.trials["quantizer"] == HOSTILE].set_index("quantizer.mode")
    assert outcome.failed == len(COSTS)
    for mode, (code, reason) in COSTS.items():
        assert rows.loc[mode, "status"] == "failed", mode
        assert rows.loc[mode, "reason_code"] == code, mode
        assert reason in rows.loc[mode, "reason"], mode
    assert set(rows.loc[list(DONE), "status"]) == {"done"}
    assert list(marked(temporary)) == []
    assert list(temporary.iterdir()) == []
    assert list(tmp_path.rglob(".*~*")) == []


@pytest.mark.parametrize("mode", ["forges", "removes"])
def test_records_of_others_are_put_right_in_this_process_as_well(quiet, tmp_path, mode, capsys):
    console = Console(stderr=True, force_terminal=False)
    chosen = study([mode], tmp_path)
    outcome = harness.execute(chosen, tmp_path, device="cpu", console=console, in_process=True)
    assert (outcome.done, outcome.failed) == (3, 0)
    check(store.load(tmp_path), quiet)
    assert (
        "2 records of other trials were changed while a file's code ran: these are run again" in capsys.readouterr().err
    )
    again = harness.execute(chosen, tmp_path, device="cpu", console=console, in_process=True)
    assert again.reused == 3


def test_records_of_an_earlier_call_are_guarded_as_well(quiet, tmp_path):
    harness.run(study(), tmp_path, device="cpu", in_process=True)
    console = Console(quiet=True)
    outcome = harness.execute(study(["forges"], tmp_path), tmp_path, device="cpu", console=console, in_process=True)
    assert (outcome.done, outcome.reused) == (3, 2)
    check(store.load(tmp_path), quiet)


def test_what_runs_a_file_is_known_by_its_settings(tmp_path):
    from evalsuite.study.trials import expand

    chosen = study(["raises"])
    trials = expand(chosen, dict.fromkeys(chosen.tasks, ""))
    assert [runs_a_file(trial) for trial in trials] == [True, False, False]
