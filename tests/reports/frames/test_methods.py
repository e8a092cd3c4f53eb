from typing import Any

import pandas as pd
import pytest

from evalsuite.store import Run
from reports.frames.methods import KEYS, ORDER, combinations, each_row, labelled, readable, with_room


class FakeRun:
    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self.trials = pd.DataFrame(rows)


def trial(
    name: str, reference: str, quantizer: str, adapter: str = "off", calibration: str = "size 64"
) -> dict[str, Any]:
    return {
        "trial": name,
        "reference": reference,
        "task": "task",
        "stream_label": "usual",
        "quantizer_label": quantizer,
        "adapter_label": adapter,
        "calibration_label": calibration,
        "weight_bits": None if quantizer == "fp" else 4,
    }


def test_the_references_say_what_is_full_precision_and_unadapted_not_the_names() -> None:
    rows = [trial("b", "a", "q", "on"), trial("c", "a", "q"), trial("a", "a", "fp")]
    table = labelled(FakeRun(rows)).set_index("trial")  # type: ignore[arg-type]
    assert table["unadapted"].to_dict() == {"a": True, "b": False, "c": True}
    assert table["full_precision"].to_dict() == {"a": True, "b": False, "c": False}
    assert table["network_order"].to_dict() == {"a": 0, "b": 1, "c": 1}
    assert table["adapter_order"].to_dict() == {"a": 0, "b": 1, "c": 0}


def test_the_calibration_set_is_named_only_where_a_quantizer_saw_several() -> None:
    rows = [
        trial("a", "a", "fp", calibration="none"),
        trial("b", "a", "q", calibration="size 16"),
        trial("c", "a", "q", calibration="size 64"),
        trial("d", "a", "r", calibration="size 64"),
    ]
    table = labelled(FakeRun(rows))  # type: ignore[arg-type]
    assert list(table["network"]) == ["fp", "q (size 16)", "q (size 64)", "r"]


def test_combinations_are_unique_and_in_order(run: Run) -> None:
    table = combinations(run)
    assert len(table) == run.trials.groupby(KEYS).ngroups
    assert not table.duplicated(KEYS).any()
    assert table[ORDER].apply(tuple, axis=1).is_monotonic_increasing


def test_each_row_and_readable() -> None:
    assert [row.a for row in each_row(pd.DataFrame({"a": [1, 2]}))] == [1, 2]
    assert readable("gaussian_noise") == "gaussian noise"


def test_more_networks_than_a_figure_has_room_for(study_run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    table = combinations(study_run)
    assert with_room(table).equals(table)
    monkeypatch.setattr("reports.frames.methods._MOST_NETWORKS", 10)
    kept = with_room(table)
    assert list(kept["network"].unique()) == ["full precision", "rtn W4A4", "adaround W4A4", "gptq W4A4"]
    assert set(kept["calibration_label"]) == {"none", "size 64"}
