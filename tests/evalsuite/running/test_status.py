import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from _dummies import plugins
from _dummies.runs import make_run
from _dummies.studies import execute, tiny

from evalsuite import cli, store
from evalsuite.commands.status import lines_of
from evalsuite.errors import RequestError
from evalsuite.files import this_machine
from evalsuite.running.durations import Durations
from evalsuite.running.run_log import LOG
from evalsuite.running.status import Observer

RUN = """
import json, sys
sys.path[:] = json.loads(sys.argv[1])
from _dummies.studies import execute, tiny
execute(tiny(**json.loads(sys.argv[3])), sys.argv[2], int(sys.argv[4]))
"""
CHANGES = {
    "quantizer": [{"method": "full_precision"}, {"method": plugins.SCALED}, {"method": plugins.WAITING}],
    "adapter": [{"method": "none"}],
}


@pytest.fixture
def start(tmp_path):
    """Start a run in ``tmp_path / "run"`` whose last quantizer waits for ``tmp_path / "go"``."""
    started = []

    def begin(workers):
        last = {"method": plugins.WAITING, "until": str(tmp_path / "go")}
        changes = CHANGES | {"quantizer": [*CHANGES["quantizer"][:2], last]}
        arguments = [json.dumps(sys.path), str(tmp_path / "run"), json.dumps(changes), str(workers)]
        started.append(subprocess.Popen([sys.executable, "-c", RUN, *arguments]))
        return started[-1]

    yield begin
    (tmp_path / "go").touch()
    for process in started:
        process.kill()
        process.wait()


def looked(folder, wanted, process):
    """Look until the status is as wanted."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        if (folder / LOG).is_file():
            found = Observer(folder).look()
            if wanted(found):
                return found
        time.sleep(0.1)
    raise AssertionError("it never came to this")


def waits(found):
    return bool(found.items) and all(plugins.WAITING in item.what for item in found.items)


def test_status_of_a_run_while_it_runs_after_it_was_killed_and_after_its_end(tmp_path, start):
    folder = tmp_path / "run"
    process = start(2)
    found = looked(folder, waits, process)
    assert (found.trials, found.done, found.left, found.works) == (6, 0, 6, True)
    assert [(call.process, call.workers) for call in found.calls] == [(process.pid, 2)]
    (item,) = found.items
    assert (item.stage, item.alive) == ("quantizing", True)
    assert item.process != process.pid
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and Observer(folder).look().items[0].alive:
        time.sleep(0.1)  # the system ends the worker
    found = Observer(folder).look()
    assert (found.works, found.ended, found.items[0].alive) == (False, "", False)
    assert "no process works on it; the last call was killed" in "\n".join(lines_of(found))
    assert {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()} == before
    assert not (folder / "trials.parquet").exists()
    (tmp_path / "go").touch()
    assert start(1).wait(timeout=60) == 0
    found = Observer(folder).look()
    assert (found.done, found.left, found.works, found.ended, found.items) == (6, 0, False, "done", ())
    assert found.seconds_left == 0
    assert [call.ended for call in found.calls] == ["", "done"]


def test_time_left_is_that_of_the_same_kind_of_work(tmp_path):
    execute(tiny(adapter=[{"method": "none"}]), tmp_path)
    observer = Observer(tmp_path)
    assert observer.look().seconds_left == 0
    lines = [json.loads(line) for line in (tmp_path / LOG).read_text(encoding="ascii").splitlines()]
    plan = {row["trial"]: row for row in store.read_plan(tmp_path)}
    for line in lines:
        if line["event"] == "item ended":
            line["seconds"] = 100.0 if plan.get(line.get("trial"), {}).get("quantizer") == plugins.SCALED else 1.0
    (tmp_path / LOG).write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="ascii")
    scaled = [name for name, row in plan.items() if row["quantizer"] == plugins.SCALED]
    for name in [*scaled[:1], next(name for name in plan if name not in scaled)]:
        store.record_file(tmp_path, name).unlink()
    found = Observer(tmp_path).look()
    assert (found.left, found.seconds_left) == (2, 101.0)


def test_durations_of_the_nearest_kind_that_is_known():
    known = Durations()
    assert known.of(("a",)) is None
    known.add(("a", "b"), 1.0)
    known.add(("a", "c"), 3.0)
    known.add(("d", "c"), 8.0)
    assert [known.of(kind) for kind in (("a", "b"), ("a", "x"), ("x", "b"))] == [1.0, 2.0, 4.0]


def test_status_of_a_run_by_an_older_version(tmp_path, capsys):
    folder = make_run(tmp_path / "old")
    trials = store.load(folder).trials
    assert cli.call(["status", str(folder), "--json", "--watch"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["trials"] == len(trials)
    assert {name: found[name] for name in ("done", "failed", "refused")} == {
        name: int((trials["status"] == name).sum()) for name in ("done", "failed", "refused")
    }
    assert (found["works"], found["seconds_left"], found["calls"], found["log"]) == (None, None, [], [])
    assert cli.call(["status", str(folder)]) == 0
    assert "it has no log" in capsys.readouterr().out


def test_damaged_record_is_left_to_do(tmp_path):
    execute(tiny(adapter=[{"method": "none"}]), tmp_path)
    observer = Observer(tmp_path)
    done = observer.look().done
    file = store.record_file(tmp_path, str(store.load(tmp_path).trials["trial"][0]))
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    for found in (observer.look(), Observer(tmp_path).look()):
        assert (found.done, found.left, found.damaged) == (done - 1, 1, 1)


def test_hostile_and_damaged_lines_of_a_log_do_no_harm(tmp_path, capsys):
    execute(tiny(adapter=[{"method": "none"}]), tmp_path)
    moment = "2026-01-02T03:04:05+00:00"
    evil = {"time": moment, "event": "item started", "stage": "[red]\x1b[2J", "what": "\u202e[bold]\n\x1b]0;x\x07"}
    begun = {"time": moment, "event": "run started", "call": "x", "process": 1, "born": 0, "machine": this_machine()}
    with (tmp_path / LOG).open("ab") as log:
        log.write(b"\xff\xfe\n{]\n" + b"[" * 50_000 + b"\n")
        log.write(
            json.dumps(begun).encode() + b"\n" + json.dumps(evil | {"call": "x", "process": 2**70}).encode() + b"\n"
        )
    assert cli.call(["status", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert all(line.isprintable() for line in out.splitlines())
    assert r"[red]\x1b[2J" in out
    assert r"\u202e[bold]" in out
    assert cli.call(["status", str(tmp_path), "--json"]) == 0
    assert capsys.readouterr().out.isascii()


def test_call_on_another_machine_is_not_judged(tmp_path):
    execute(tiny(adapter=[{"method": "none"}]), tmp_path)
    begun = {"time": "2026-01-02T03:04:05+00:00", "event": "run started", "call": "x", "process": 1, "machine": "other"}
    with (tmp_path / LOG).open("a", encoding="ascii") as log:
        log.write(json.dumps(begun) + "\n")
    found = Observer(tmp_path).look()
    assert found.works is None
    assert "another machine (other)" in "\n".join(lines_of(found))


def test_no_run_is_one_line_and_status_2(tmp_path, capsys):
    assert cli.call(["status", str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    with pytest.raises(RequestError, match=r"study\.json"):
        Observer(Path(tmp_path / "nowhere"))
