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


def test_what_no_test_compares_is_neither_worse_nor_not_worse() -> None:
    """Networks that different engines run are not compared."""

    class Untold(Told):
        def against_quantizer(self, row, label):
            return None if row.quantizer_label == "c" else type("Comparison", (), {"shown": False})

    evidence = Untold({"a": 0.2, "b": 0.1, "c": 0.3})
    table = best_of_rivals(evidence).set_axis(evidence.methods["quantizer_label"])
    assert table.loc["a"].tolist() == [False, True, False]
    assert table.loc["b"].tolist() == [True, False, False]
    assert table.loc["c"].tolist() == [False, False, True]
