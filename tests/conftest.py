"""Shared fixtures; every test process uses one torch thread, so that two of them fit two cores."""

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


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder with real images and weights; the test is skipped where it is absent."""
    root = Path(os.environ.get("EVALSUITE_DATA") or Path(__file__).parents[2] / "shared" / "data")
    if not (root / "cifar10_test_images.npy").is_file():
        pytest.skip(f"no real data at {root} (set EVALSUITE_DATA)")
    return root
