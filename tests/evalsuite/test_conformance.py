import json

import pytest

from evalsuite import cli
from evalsuite.conformance import FILE, conformance, spoiling, write_conformance
from evalsuite.registry import configure
from evalsuite.running.workers import Limits

GOOD = """
from evalsuite.quantizers.rtn import RoundToNearest
from dataclasses import dataclass
@dataclass(frozen=True)
class Mine(RoundToNearest):
    "Mine."
    range: str = "minmax"
"""
ENDS = "    def calibrate(self, model, images, generator):\n        import os; os._exit(3)\n"
HANGS = "    def calibrate(self, model, images, generator):\n        import time; time.sleep(60)\n"
IGNORES_ITS_BITS = """    def insert(self, model, bits, example):
        from dataclasses import replace
        return super().insert(model, replace(bits, weight_bits=8, activation_bits=8, first_last_bits=8), example)
"""


@pytest.fixture
def target(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def write(method=""):
        (tmp_path / "mine.py").write_text(GOOD + method)
        return configure("quantizers", "mine.py:Mine")

    return write


def test_a_good_method_fails_nothing_and_its_checks_are_kept_as_they_are(target, tmp_path):
    checks = conformance(target())
    assert not [check for check in checks if check.outcome == "fail"]
    assert len([check for check in checks if check.outcome == "pass"]) > 20
    write_conformance(tmp_path, checks)
    kept = json.loads((tmp_path / FILE).read_text())
    assert [(check["name"], check["outcome"]) for check in kept] == [(check.name, check.outcome) for check in checks]


@pytest.mark.parametrize(
    ("method", "limits", "reason"),
    [
        (ENDS, None, "3"),
        (HANGS, Limits(seconds=5), "5 s"),
    ],
)
def test_a_process_that_ends_or_hangs_is_one_failed_check(target, method, limits, reason):
    (check,) = spoiling(conformance(target(method), limits))
    assert check.name == "its checks come to an end"
    assert reason in check.message


@pytest.mark.parametrize(("method", "name"), [(IGNORES_ITS_BITS, "weights keep their bits")])
def test_an_audit_measures_nothing_with_a_method_whose_numbers_would_be_wrong(target, method, name, tmp_path, capsys):
    target(method)
    assert cli.call(["audit", "mine.py:Mine", "--against", "rtn", "--device", "cpu"]) == 1
    printed = capsys.readouterr()
    assert name in printed.err
    assert "nothing is measured" in printed.err
    (file,) = (tmp_path / "runs").glob("*/verdict.json")
    answer = {"verdict": json.loads(file.read_text())}
    assert any(check["outcome"] == "fail" and check["spoils_numbers"] for check in answer["verdict"]["conformance"])
    (folder,) = (tmp_path / "runs").iterdir()
    assert {file.name for file in folder.iterdir()} == {"verdict.json", "audit.html"}
