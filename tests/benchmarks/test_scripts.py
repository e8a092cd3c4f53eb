from __future__ import annotations

import argparse
import importlib
import inspect
from pathlib import Path

import pytest

import benchmarks
from benchmarks.__main__ import GROUPS

FOLDER = Path(benchmarks.__path__[0])
LINES = [line for lines in GROUPS.values() for line in lines]


@pytest.mark.parametrize("line", LINES, ids=" ".join)
def test_a_group_gives_its_scripts_options_that_they_know(line, monkeypatch):
    script, *options = line
    assert (FOLDER / f"{script}.py").is_file()
    monkeypatch.syspath_prepend(FOLDER)
    module = importlib.import_module(script)
    parser = argparse.ArgumentParser()
    if hasattr(module, "options"):
        module.options(parser)
    arguments = vars(parser.parse_args(options))
    if hasattr(module, "measure"):
        inspect.signature(module.measure).bind("data", **arguments)


@pytest.mark.parametrize("script", ["brecq", "deit", "integer_engine", "mobilenet", "power", "ttaq_calibration"])
def test_options_have_the_defaults_of_measure(script, monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    module = importlib.import_module(script)
    parser = argparse.ArgumentParser()
    module.options(parser)
    given = {
        name: tuple(value) if isinstance(value, list) else value for name, value in vars(parser.parse_args([])).items()
    }
    parameters = inspect.signature(module.measure).parameters.values()
    expected = {one.name: one.default for one in parameters if one.name != "data_root"}
    assert given == {name: tuple(value) if isinstance(value, list) else value for name, value in expected.items()}
