from __future__ import annotations

import pandas as pd
import pytest

from reports.words.comparison import brief

ROW = {"a": "new", "b": "old", "difference": -0.1, "p_holm": 0.01, "shown": True}
WORST = {"worst_class_difference": 0.1, "worst_class_p_holm": 0.01, "worst_class_shown": True}
ALIKE = {"p_holm": 0.4, "shown": False, "worst_class_p_holm": float("nan"), "worst_class_shown": False}


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{}, {}], "new against old: of 2 results 2 with less error and none with more. Worst class: none with less"),
        ([{}, ALIKE], "new against old: of 2 results 1 with less error, none with more and 1 not told apart."),
        ([ALIKE, {"p_holm": float("nan")}], "none of 2 results is told apart (1 not told apart, 1 without a test)."),
        ([{"a": f"run {k}"} for k in range(9)], "9 runs against old: ▲ 9 of 9 results."),
    ],
)
def test_the_comparison_in_brief(rows, said):
    text = brief(pd.DataFrame([ROW | WORST | row for row in rows])).replace("\N{NO-BREAK SPACE}", " ")
    assert said in text
    assert len(text.split()) <= 60
