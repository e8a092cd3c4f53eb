import io

import pandas as pd

from evalsuite.store import Run
from reports import style
from reports.figures.paradigm_comparison import ParadigmComparison


def reread(data: pd.DataFrame) -> pd.DataFrame:
    return pd.read_csv(io.StringIO(data.to_csv(index=False)))


def test_paradigms_are_compared_at_equal_bits(study_run: Run) -> None:
    data = ParadigmComparison().data(study_run)
    assert set(data["bits"]) == {"W4A4"}
    assert data["error"].is_monotonic_increasing
    assert data["best"].tolist() == [True, False, False]
    with style.applied():
        figure = ParadigmComparison().draw(reread(data))
    assert figure.get_figwidth() == style.COLUMN
    mean, worst = figure.axes
    assert [text.get_text() for text in mean.get_yticklabels()] == list(data["quantizer_label"])
    coloured = [line for line in worst.get_lines() if line.get_markerfacecolor() == style.ALERT]
    assert len(coloured) == (data["worst_drop_class_p_holm"] < 0.05).sum() > 0


def test_quantizers_of_different_bits_are_no_rivals(run: Run) -> None:
    assert set(ParadigmComparison().data(run)["quantizer_label"]) == {"rtn W4A4", "adaround W4A4"}
