import pandas as pd
import pytest

from reports.frames.methods import KEYS
from reports.frames.rivals import best_of_rivals


class Told:
    """Evidence that tells every method from every other one."""

    def __init__(self, errors: dict[str, float]) -> None:
        columns = dict.fromkeys(KEYS, "same") | {"bits": "W4A4", "full_precision": False}
        self.methods = pd.DataFrame(columns | {"quantizer_label": list(errors), "error": list(errors.values())})

    def against_quantizer(self, row, label):
        assert row.quantizer_label != label
        return type("Comparison", (), {"shown": True})


@pytest.mark.parametrize(
    ("errors", "best"),
    [
        ({"a": 0.2, "b": 0.1, "c": 0.3}, {"b"}),
        ({"a": 0.1, "b": 0.1, "c": 0.3}, {"a", "b"}),
        ({"a": 0.9, "b": 0.9}, {"a", "b"}),
        ({"a": 0.9}, set()),
    ],
)
def test_of_equal_errors_none_is_better_than_the_other(errors, best) -> None:
    evidence = Told(errors)
    table = best_of_rivals(evidence)
    assert set(evidence.methods.loc[table["best"], "quantizer_label"]) == best
    assert not table["not_distinct"].any()
