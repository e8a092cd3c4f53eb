import pytest
import torch
from _dummies.work import say_device
from hypothesis import given
from hypothesis import strategies as st

from evalsuite.errors import RequestError
from evalsuite.running.devices import alone, device_of, free_number, resolve_devices
from evalsuite.running.options import RunOptions
from evalsuite.running.workers import Workers
from evalsuite.running.workspace import Workspace

HAS_GPU = torch.cuda.is_available()


@given(st.integers(1, 9), st.lists(st.sampled_from([f"cuda:{n}" for n in range(5)]), min_size=1, unique=True))
def test_each_device_gets_as_many_workers_as_any_other_or_one_more(workers, devices):
    given_to = [device_of(number, devices) for number in range(workers)]
    counts = [given_to.count(device) for device in devices]
    assert sum(counts) == workers
    assert max(counts) - min(counts) <= 1
    assert counts == sorted(counts, reverse=True), "the first are the first to have one more"


@given(st.integers(1, 6), st.data())
def test_a_worker_that_follows_one_that_died_gets_its_device(count, data):
    numbers = list(range(count))
    dead = data.draw(st.lists(st.sampled_from(numbers), unique=True))
    alive = [number for number in numbers if number not in dead]
    for _ in dead:
        alive.append(free_number(alive))
    assert sorted(alive) == numbers


@pytest.mark.parametrize(
    ("device", "visible", "expected"),
    [
        ("cpu", None, ("cpu", {})),
        ("cuda", "1,2", ("cuda", {})),
        ("cuda:1", None, ("cuda", {"CUDA_VISIBLE_DEVICES": "1"})),
        ("cuda:1", "5, 7", ("cuda", {"CUDA_VISIBLE_DEVICES": "7"})),
        ("cuda:0", "GPU-0af3", ("cuda", {"CUDA_VISIBLE_DEVICES": "GPU-0af3"})),
    ],
)
def test_a_process_sees_its_own_device_only_as_the_run_that_started_it_counts_them(device, visible, expected):
    assert alone(device, {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}) == expected


@pytest.mark.parametrize(
    ("wanted", "why"),
    [
        ("cuda:0,cuda:0", "'cuda:0' is named twice"),
        ("cpu,cuda:0", "expected a list of numbered ones"),
        ("cuda,cuda:0", "expected a list of numbered ones"),
        ("cuda:77", "device 'cuda:77': expected"),
        ("", "device '': expected"),
        ("cuda:x", "device 'cuda:x': expected"),
    ],
)
def test_devices_that_cannot_be_had_are_a_line(wanted, why):
    with pytest.raises(RequestError, match=why) as raised:
        resolve_devices(wanted)
    assert "\n" not in str(raised.value)


@pytest.mark.skipif(HAS_GPU, reason="this machine has a GPU")
def test_without_a_gpu_one_is_refused_and_not_replaced(tmp_path):
    assert resolve_devices("auto") == ("cpu",)
    with pytest.raises(RequestError, match="device 'cuda'"):
        RunOptions(device="cuda").workspace(tmp_path)


@pytest.fixture
def three_gpus(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setattr("evalsuite.running.devices.resolve_device", lambda name: "cuda" if name == "auto" else name)


@pytest.mark.parametrize(
    ("device", "workers", "in_process", "count", "devices"),
    [
        ("auto", None, False, 3, ("cuda:0", "cuda:1", "cuda:2")),
        ("cuda", 0, False, 3, ("cuda:0", "cuda:1", "cuda:2")),
        ("cuda:2,cuda:0", None, False, 2, ("cuda:2", "cuda:0")),
        ("cuda:0,cuda:2", 5, False, 5, ("cuda:0", "cuda:2")),
        ("cuda:1", None, False, 1, ("cuda:1",)),
        ("cuda", None, True, 1, ("cuda:0", "cuda:1", "cuda:2")),
        ("cpu", None, False, 1, ("cpu",)),
    ],
)
@pytest.mark.usefixtures("three_gpus")
def test_one_worker_a_device_unless_told_otherwise(device, workers, in_process, count, devices, tmp_path):
    options = RunOptions(workers, device=device, in_process=in_process)
    workspace = options.workspace(tmp_path)
    assert (options.pool(workspace).count, workspace.devices, workspace.device) == (count, devices, devices[0])


@pytest.mark.usefixtures("three_gpus")
def test_a_device_that_is_not_there_is_named_beside_those_that_are():
    with pytest.raises(RequestError, match="device 'cuda:3': expected one that is there: cuda:0, cuda:1, cuda:2"):
        resolve_devices("cuda:0,cuda:3")


def test_workers_compute_on_the_device_that_is_theirs(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6,8")
    workspace = Workspace(tmp_path, device="cuda:0", devices=("cuda:0", "cuda:2"))
    with Workers(2, workspace) as workers:
        assert all(failure is None for _, failure in workers.run(say_device, [["a"], ["b"]]))
    assert {(tmp_path / item).read_text() for item in "ab"} == {"cuda 4", "cuda 8"}
