"""Shared fixtures; every test process uses one torch thread, so that two of them fit two cores."""

import faulthandler
import gc
import os
import signal
from ast import literal_eval
from pathlib import Path

import pytest

os.environ["OMP_NUM_THREADS"] = "1"  # and none in runs depends on what else the machine is doing

import torch
from hypothesis import settings

torch.set_num_threads(1)

# How long an example takes depends on what else the machine is doing.
settings.register_profile("evalsuite", deadline=None)
settings.load_profile("evalsuite")


# The files that take longest, longest first: begun last, one of them would keep a single process busy at the end.
LONGEST = (
    "evalsuite/running/test_hostile.py",
    "evalsuite/statistics/test_under_the_null.py",
    "reports/page/test_browser.py",
    "evalsuite/running/test_workers.py",
    "evalsuite/running/test_cluster.py",
    "evalsuite/running/test_failures.py",
    "evalsuite/running/test_kills.py",
    "reports/page/test_build.py",
    "test_documents.py",
    "evalsuite/running/test_status.py",
    "reports/figures/test_canvas.py",
)


class Passed:
    """Keeps the names of tests as they pass, for who may have to end a run of them and go on with the others.

    A process that is sent SIGUSR1 writes there where it stands.
    """

    def __init__(self, folder: Path, writes: bool) -> None:
        self._names, self._failed, self._writes = folder / "passed", set[str](), writes
        self._stack = (folder / f"stack-{os.getpid()}").open("w")
        faulthandler.register(signal.SIGUSR1, self._stack, all_threads=True)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Remember what failed, in whichever of its parts."""
        if report.failed:
            self._failed.add(report.nodeid)

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        """Write down what did not."""
        if self._writes and nodeid not in self._failed:
            with self._names.open("a", encoding="utf-8") as file:
                file.write(f"{nodeid!r}\n")

    def names(self) -> set[str]:
        """Return what has passed."""
        return set(map(literal_eval, self._names.read_text(encoding="utf-8").splitlines()))


def pytest_configure(config: pytest.Config) -> None:
    """Keep what passed in the folder $EVALSUITE_TESTS, if there is one."""
    if folder := os.environ.get("EVALSUITE_TESTS"):
        writes = not hasattr(config, "workerinput")  # what several processes pass, the one that started them is told
        config.pluginmanager.register(Passed(Path(folder), writes), "passed")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """Hand files to processes as xdist does, but nothing that a process which has ended had done already.

    xdist puts files that are done back to what is left to do; a process that is given one is told nothing and waits for
    ever, which is how a run with one dead process came not to end.
    """
    from xdist.scheduler import LoadFileScheduling

    class Remaining(LoadFileScheduling):
        def remove_node(self, node):
            work = self.assigned_work[node]
            for file in [file for file, tests in work.items() if all(tests.values())]:
                del work[file]
            return super().remove_node(node)

    return Remaining(config, log) if config.getoption("dist") == "loadfile" else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put the longest files first, which is the order in which processes are given them; the rest stays as it is."""
    if os.environ.get("EVALSUITE_TESTS_REST"):
        passed = config.pluginmanager.get_plugin("passed").names()
        items[:] = [item for item in items if item.nodeid not in passed]
    places = {Path(__file__).parent / name: place for place, name in enumerate(LONGEST)}
    assert all(file.is_file() for file in places), "LONGEST names a file that is gone"
    items.sort(key=lambda item: places.get(item.path, len(places)))


def pytest_collection_finish() -> None:
    """Take what is there by now, modules and tests, out of the garbage collector's sight: it stays until the end."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder with real images and weights; the test is skipped where it is absent."""
    root = Path(os.environ.get("EVALSUITE_DATA") or Path(__file__).parents[2] / "shared" / "data")
    if not (root / "cifar10_test_images.npy").is_file():
        pytest.skip(f"no real data at {root} (set EVALSUITE_DATA)")
    return root
