import threading
import time
from contextlib import closing

import numpy as np
import pyarrow.parquet as pq
import pytest
from _dummies.studies import tiny
from hypothesis import given
from hypothesis import strategies as st

from evalsuite import store
from evalsuite.running.ahead import DEPTH, ahead, depth_for
from evalsuite.running.evaluation import run_trial
from evalsuite.running.quantized_models import quantize_model
from evalsuite.running.workspace import Workspace
from evalsuite.study.trials import expand
from evalsuite.testing._elsewhere import DEVICE, elsewhere


def threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("ahead")]


@given(st.lists(st.integers()), st.integers(0, 4))
def test_all_come_in_order_and_no_more_are_made_than_asked(items, depth):
    made, taken = [], []

    def make(item):
        made.append(item)
        assert len(made) - len(taken) <= depth + 1
        return item, threading.current_thread().name.startswith("ahead")

    for item, in_thread in ahead(make, items, depth):
        taken.append(item)
        assert in_thread == (depth > 0)
    assert taken == made == items
    assert not threads()


def fails_at_three(item):
    if item == 3:
        raise KeyError("three")
    return item


@pytest.mark.parametrize("depth", [0, 1, 9])
def test_what_the_thread_raises_reaches_the_caller_in_its_turn(depth):
    taken = []
    with pytest.raises(KeyError, match="three"):
        taken.extend(ahead(fails_at_three, range(100), depth))
    assert taken == [0, 1, 2]
    assert not threads()


def inverses(items):
    with closing(items):
        return [1 / (item - 2) for item in items]


def test_the_thread_ends_where_the_caller_stops_or_fails():
    made = []

    def make(item):
        time.sleep(0.001)
        made.append(item)
        return item

    with closing(ahead(make, range(10**9), 3)) as items:
        assert next(items) == 0
    assert not threads()
    assert len(made) <= 5
    with pytest.raises(ZeroDivisionError):
        inverses(ahead(make, range(10**9), 3))
    assert not threads()


def test_nothing_is_made_ahead_of_the_cpu():
    assert (depth_for("cpu"), depth_for("cuda"), depth_for("cuda:1")) == (0, DEPTH, DEPTH)


def test_a_trial_on_another_device_says_what_it_does_on_the_cpu(tmp_path):
    study = tiny()
    every = expand(study, dict.fromkeys(study.tasks, ""))
    trials = {trial.adapter: trial for trial in every if trial.quantizer.bits is not None}.values()
    assert len(trials) == 2
    for trial in trials:
        tables = []
        for device in ("cpu", DEVICE):
            workspace = Workspace(tmp_path / device, device=device)
            with elsewhere(products_here=True):  # networks are built and quantizers inserted there
                quantize_model(trial, workspace)
                run_trial(trial, workspace, {})
            tables.append(pq.read_table(store.record_file(workspace.folder, trial.identity)).to_pydict())
        assert tables[0].keys() == tables[1].keys()
        for name, values in tables[0].items():
            if name in ("confidence", "loss", "brier"):
                np.testing.assert_allclose(tables[1][name], values, rtol=1e-4, atol=1e-6)
            else:
                assert tables[1][name] == values, name
    assert not threads()
