import importlib.util
from dataclasses import dataclass

import pytest
from _dummies import plugins

from evalsuite import doctor, registry
from evalsuite.engines import ENGINES
from evalsuite.errors import RequestError


class Weightless(plugins.StripesTask):
    def model(self, root):
        raise RequestError("no file weights/stripes.pt")


@pytest.mark.parametrize(("root", "remedy"), [(None, "--data-root"), ("somewhere", "put the file there")])
def test_a_task_without_its_weights_is_absent(root, remedy, monkeypatch):
    monkeypatch.setattr(registry, "load", lambda kind, name: Weightless)
    check = doctor._task("stripes", root)
    assert (check.name, check.ok, check.needed, check.found) == ("stripes", False, False, "no file weights/stripes.pt")
    assert remedy in check.remedy


def test_a_task_with_options_to_give_says_so():
    check = doctor._task("folder", None)
    assert check.ok
    assert check.found == "usable with its options images and network, given in a study's [[task]]"


@dataclass(frozen=True)
class Quick(plugins.StripesTask):
    def data(self, root):
        raise AssertionError("decoded")

    def found(self, root):
        return f"something in {root}"


def test_a_task_that_can_say_what_it_finds_is_asked(monkeypatch):
    monkeypatch.setattr(registry, "load", lambda kind, name: Quick)
    assert doctor._task("quick", "somewhere").found == "something in somewhere"


def test_a_whole_task_is_found():
    check = doctor._task(plugins.TASK, None)
    assert check.ok
    assert check.found == "48 test images, 30 to calibrate with"


@pytest.mark.parametrize("engine", ENGINES[1:])
def test_an_engine_is_there_where_its_package_is(engine, monkeypatch):
    package = engine.partition("_")[0]
    assert doctor._engine(engine).ok == (importlib.util.find_spec(package) is not None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    check = doctor._engine(engine)
    assert (check.ok, check.needed, check.found) == (False, False, "not installed")
    assert "evalsuite[onnx,openvino]" in check.remedy


def test_what_is_missing_for_one_reason_is_said_once():
    lost, other = ("no folder", "give it", False), ("no file", "put it there", False)
    checks = [
        doctor.Check("a", True, "found"),
        *(doctor.Check(name, False, *why) for name, why in zip("bcde", (lost, other, lost, lost), strict=True)),
        doctor.Check("f", True, "found"),
    ]
    assert [each.name for each in doctor.together(checks)] == ["a", "b, d, e", "c", "f"]
