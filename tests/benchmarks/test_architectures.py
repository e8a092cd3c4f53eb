from __future__ import annotations

import importlib
from pathlib import Path

import pytest

import benchmarks


@pytest.fixture
def architectures(monkeypatch):
    monkeypatch.syspath_prepend(Path(benchmarks.__path__[0]))
    return importlib.import_module("architectures")


@pytest.mark.parametrize(
    "name",
    [
        "torchvision/squeezenet1_1",
        "timm/test_vit",
        "timm/test_resnet",
        "timm/test_convnext",
        "timm/test_coatnet",
        "timm/test_nfnet",
    ],
)
def test_small_architectures_quantize(architectures, name):
    assert name in architectures.NAMES
    assert architectures.outcome(name, "rtn") == architectures.Row(name, "ok")


def test_refused_and_absent_ones_say_why(architectures):
    row = architectures.outcome("timm/no_such_network", "rtn")
    assert row.outcome == "absent"
    assert "no_such_network" in row.reason


def test_a_network_that_stops_working_is_named_and_tables_are_read_back(architectures, tmp_path):
    row = architectures.Row
    before = [row("a", "ok"), row("b", "refused", "x, y"), row("c", "ok")]
    after = [row("a", "failed", "E: z"), row("b", "failed"), row("c", "ok"), row("d", "refused")]
    architectures.write(tmp_path / "table.csv", before)
    assert architectures.read(tmp_path / "table.csv") == before
    assert architectures.lost(before, after) == [after[0]]
