import time
from dataclasses import replace
from pathlib import Path

import pytest
from _dummies.studies import execute, tiny
from _dummies.work import work

from evalsuite.errors import RequestError
from evalsuite.running import cluster
from evalsuite.running.cluster import Cluster, Node, do_part
from evalsuite.running.options import RunOptions
from evalsuite.running.workers import Limits
from evalsuite.running.workspace import Workspace
from evalsuite.store import load

distributed = pytest.importorskip("distributed", reason="evalsuite[dask] is not installed")


@pytest.fixture(scope="module")
def address():
    """A Dask cluster of two places in this process."""
    places = {"n_workers": 2, "threads_per_worker": 1, "processes": False}
    with distributed.LocalCluster(dashboard_address=None, **places) as local:
        yield local.scheduler_address


class Apart(Cluster):
    """A cluster whose nodes do not see the run's folder."""

    def _marked(self):
        return replace(super()._marked(), folder=Path("/nowhere/run"))


def test_records_of_nodes_apart_are_those_of_a_local_run(address, tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr("evalsuite.running.options.Cluster", Apart)
    study = tiny()
    execute(study, tmp_path / "local")
    outcome = execute(study, tmp_path / "dask", workers=0, in_process=False, backend="dask", address=address)
    local, run = load(tmp_path / "local"), load(tmp_path / "dask")
    assert outcome.done == len(local.trials) == len(run.trials)
    for trial in local.trials["trial"]:
        assert run.records_of(trial).equals(local.records_of(trial))
    assert not [*run.folder.glob(".shared-*")]


def test_items_that_fail_do_so_as_on_one_machine(address, tmp_path):
    nodes = Cluster("dask", address, 0, Workspace(tmp_path), "cpu", Limits())
    with nodes:
        assert nodes.count == 2
        ended = dict(nodes.run(work, [["a"]]))
    with nodes:
        ended |= dict(nodes.run(work, [["b-exit", "c"]]))
    assert (tmp_path / "log").read_text().count("\n") == 4, "in the run's folder, both times"
    assert ended["a"] is None
    assert ended["c"] is None
    assert ended["b-exit"][:3] == (
        *("failed", "its process ended with exit code 3; tried again alone, it did so again", "worker_died"),
    )


class Losing:
    """Calls of a cluster that is lost after each so many results."""

    jobs = 1

    def __init__(self, bears):
        self.bears, self.handed = bears, []

    def results(self, function, calls):
        for number, call in enumerate(calls):
            if number == self.bears:
                raise ConnectionError("a node is gone")
            self.handed.append(call[0])
            yield function(*call)


def test_what_a_lost_node_has_not_done_is_handed_out_again(tmp_path, monkeypatch):
    monkeypatch.setattr(cluster, "PAUSE", 0.0)
    nodes = Cluster("dask", "", 1, Workspace(tmp_path), "cpu", Limits())
    nodes.count, nodes._calls = 1, Losing(bears=2)
    assert dict(nodes.run(work, [["a"], ["b"], ["c"], ["d"], ["e"]])) == dict.fromkeys("abcde")
    assert nodes._calls.handed == [0, 1, 2, 3, 4], "each once"
    nodes._calls = Losing(bears=0)
    with pytest.raises(RequestError, match=r"the dask cluster was lost: .*a node is gone"):
        list(nodes.run(work, [["a"]]))
    cluster._this_thread.slot.end()


def test_a_process_without_work_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(cluster, "IDLE", 0.1)
    node = Node(tmp_path / "none", "mark", None, None, "cpu", Limits())
    which, [(index, failure, files)] = do_part(7, node, work, ["a"], {})
    assert (which, index, failure, files) == (7, 0, None, {})
    slot = cluster._this_thread.slot
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not slot._over:
        time.sleep(0.01)
    with slot._busy:
        assert slot._over
    assert not slot.workspace.folder.exists()


@pytest.mark.parametrize("name", ["records/../study.json", "../x", "study.json", "/etc/x", "records/..", "records/a/b"])
def test_a_node_writes_nothing_else(name, tmp_path):
    with pytest.raises(RequestError, match="a node returned a file"):
        cluster._write(tmp_path, name, b"")
    assert not [*tmp_path.iterdir()]


def test_an_address_is_needed_and_a_cluster_at_it(monkeypatch, tmp_path):
    for variable in ("DASK_SCHEDULER_ADDRESS", "RAY_ADDRESS"):
        monkeypatch.delenv(variable, raising=False)
    with pytest.raises(RequestError, match="DASK_SCHEDULER_ADDRESS"):
        execute(tiny(), tmp_path, workers=0, in_process=False, backend="dask")
    with pytest.raises(RequestError, match="expected local, dask or ray"):
        RunOptions(backend="slurm")
    with pytest.raises(RequestError, match="without a cluster"):
        RunOptions(address="here:1")
    assert not [*tmp_path.iterdir()]


def test_a_node_keeps_to_the_memory_and_writes_no_shared_images_where_it_may_not(tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    cache.mkdir()
    node = Node(tmp_path / "none", "mark", None, cache, "cpu", Limits(), memory=4e9)
    assert node.workspace(tmp_path / "run").memory == 4e9
    for read_only in (False, True):
        monkeypatch.setattr("evalsuite.running.workspace.read_only", lambda folder, own=read_only: own)
        there = node.workspace(tmp_path / "run")
        assert there.cache_read_only == read_only
        assert (there.images_files("key")[-1].is_relative_to(cache)) != read_only
