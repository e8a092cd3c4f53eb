"""Shared fixtures; every test process uses one torch thread, so that two of them fit two cores."""

import gc
import os
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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first, which is the order in which processes are given them; the rest stays as it is."""
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
