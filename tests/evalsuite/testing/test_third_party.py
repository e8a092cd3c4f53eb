"""An author outside: an empty folder, a plugin of each kind, a test file of ten lines, pytest."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from _dummies.runs import make_run

import evalsuite

PLUGINS = """
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from evalsuite.plugins import TaskData
from evalsuite.quantization.insert import insert_quantizers
from evalsuite.quantizers.rtn import RoundToNearest
from evalsuite.streams import Domain, Stream, batch_starts

@dataclass(frozen=True)
class Quantizer:
    def insert(self, model, bits, example):
        return insert_quantizers(model, bits, example)

    def calibrate(self, model, images, generator):
        RoundToNearest(range="minmax").calibrate(model, images, generator)

class Adapter:
    def prepare(self, model, source, generator):
        return model

    @torch.no_grad()
    def step(self, state, images):
        return state(images)

class Step:
    def transform(self, pool, images, indices, generator):
        return images // 2

class Backwards:
    def domains(self):
        return (Domain(),)

    def plan(self, labels, generator):
        image = np.arange(len(labels), dtype=np.int32)[::-1].copy()
        starts = batch_starts(len(image), 50)
        return Stream(self.domains(), image, np.zeros(len(image), np.int16), starts, np.zeros(len(starts), bool))

class Task:
    image_size = 32

    def data(self, root):
        images = np.random.default_rng(0).integers(0, 256, (20, 32, 32, 3)).astype(np.uint8)
        labels = np.arange(10) % 2
        return TaskData(images[:10], labels, images[10:], labels, ("a", "b"), (0.5,) * 3, (0.2,) * 3)

    def model(self, root):
        with torch.random.fork_rng(devices=[]):
            return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3072, 2)).eval()

class Picture:
    \"\"\"Errors of all trials.\"\"\"

    def data(self, run):
        return run.trials[["error"]]

    def draw(self, data):
        figure = Figure()
        figure.add_subplot().hist(data["error"])
        return figure
"""
TESTS = """
import evalsuite, plugins
from evalsuite import testing

def test_quantizer(): testing.check_quantizer(plugins.Quantizer())
def test_adapter(): testing.check_adapter(plugins.Adapter)
def test_step(): testing.check_step("plugins.py:Step")
def test_stream(): testing.check_stream(plugins.Backwards())
def test_task(): testing.check_task(plugins.Task())
def test_figure(): testing.check_figure(plugins.Picture(), evalsuite.load("run"))
"""


WRONG = {
    "weights keep their bits": ('RoundToNearest(range="minmax").calibrate(model, images, generator)', "pass"),
    "states are private": ("return state(images)", "self.n = getattr(self, 'n', 0) + 1; return state(images) + self.n"),
    "transform keeps shape and type": ("return images // 2", "return images / 2"),
    "the same generator gives the same": ("[::-1].copy()", "[np.random.permutation(len(labels))]"),
    "the process is left as it was": ("with torch.random.fork_rng(devices=[]):", "if True:"),
    "it has a title": ('\\"\\"\\"Errors of all trials.\\"\\"\\"'.replace("\\", ""), "pass"),
}


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> str:
    """What pytest says of the right plugins, and then of the wrong ones, in a folder with nothing else but a run."""
    wrong = PLUGINS
    for right, spoilt in WRONG.values():
        assert wrong.count(right) == 1
        wrong = wrong.replace(right, spoilt)
    folder = tmp_path_factory.mktemp("author")
    make_run(folder / "run", tasks=["digits/resnet"], adapters=["none"], streams=["usual"], images=20)
    for name, plugins in (("plugins", PLUGINS), ("spoilt", wrong)):
        (folder / f"{name}.py").write_text(plugins)
        (folder / f"test_{name}.py").write_text(TESTS.replace("plugins", name))
    paths = os.pathsep.join([str(Path(evalsuite.__file__).parents[1]), str(folder)])
    environment = os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--no-header", "--rootdir", "."]
    # Both in one process: what loads torch takes longer than the checks.
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    return done.stdout


def test_plugins_of_each_kind_pass(report):
    assert "6 failed, 6 passed" in report
    assert "test_plugins.py::" not in report  # of which every failure would be named


@pytest.mark.parametrize("check", WRONG)
def test_a_wrong_one_fails_at_the_right_check(report, check):
    assert report.count("FAILED test_spoilt.py::") == 6
    assert f"- {check}: " in report.replace("cnn: ", "")
