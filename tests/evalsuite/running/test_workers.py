import os
import sys

import pytest
from _dummies.work import work

from evalsuite.errors import RequestError
from evalsuite.running.system import free_memory
from evalsuite.running.workers import Here, Limits, Workers
from evalsuite.running.workspace import Workspace


def done(folder, items, count, **limits):
    workspace = Workspace(folder)
    with Workers(count, workspace, Limits(**limits)) as workers:
        ended = list(workers.run(work, items))
    assert sorted(item for item, _ in ended) == sorted(item for group in items for item in group)
    lines = (folder / "log").read_text().split("\n")[:-1]
    return dict(ended), [(name, int(pid), int(count)) for name, pid, count in map(str.split, lines)]


def test_item_that_ends_its_process_or_hangs_costs_no_other(tmp_path):
    items = [["a-hoard", "b-exit", "c"], ["d-once", "e-sleep", "f"]]
    failures, log = done(tmp_path, items, 2, idle=3)
    assert failures["b-exit"][:3] == (
        *("failed", "its process ended with exit code 3; tried again alone, it did so again", "worker_died"),
    )
    assert failures["e-sleep"][:3] == ("failed", "it hung: no processor time used for 3 s", "hung")
    if free_memory() is not None:
        assert failures["a-hoard"].reason.startswith("MemoryError: ")
        assert failures["a-hoard"].code == "memory"
    assert {failures[item] for item in ("c", "d-once", "f")} == {None}, "d dies once only, and is done in the end"
    names = [name for name, _, _ in log]
    assert sorted(names) == ["a-hoard", "b-exit", "b-exit", "c", "d-once", "d-once", "e-sleep", "f"]
    assert set(names[-2:]) == {"b-exit", "d-once"}, "tried again after all others"
    assert {"a-hoard": 1, "b-exit": 2}.items() <= {name: count for name, _, count in log[:-2]}.items()
    for pid in {pid for _, pid, _ in log}:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_item_beyond_its_time_is_given_up(tmp_path):
    failures, _ = done(tmp_path, [["a-spin"]], 1, seconds=1)
    assert failures["a-spin"][:3] == (
        *("failed", "no result within the time limit of 1 s (--time-limit)", "time_limit"),
    )


def test_item_beyond_its_memory_is_given_up(tmp_path):
    if free_memory() is None:
        pytest.skip("the system does not say what memory is used")
    items = ["a-hoard", "b-tensor", "c-pages", "d-children", "e"]
    failures, log = done(tmp_path, [items], 1, memory=0.5e9)
    for item in items[:-1]:
        assert failures[item].reason.startswith("more than the memory limit of 0.5 GB (--memory-limit or --memory)"), (
            item
        )
        assert failures[item].code == "memory"
    assert failures["e"] is None
    assert [name for name, _, _ in log] == items, "none is tried again"


def test_processes_that_cannot_start_are_a_line(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [])
    with pytest.raises(RequestError, match="a worker process ended with exit code 1 before it could begin"):
        done(tmp_path, [["a"]], 1)


def test_in_this_process_items_come_in_order_and_share_what_is_kept(tmp_path):
    with Here(Workspace(tmp_path)) as here:
        ended = list(here.run(work, [["a", "b-hoard"], ["c"]]))
    assert [item for item, _ in ended] == ["a", "b-hoard", "c"]
    assert [failure and failure[0] for _, failure in ended] == [None, "failed", None]
    assert [line.split()[1:] for line in (tmp_path / "log").read_text().splitlines()] == [
        [str(os.getpid()), str(count)] for count in (1, 2, 3)
    ]
