import io

import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg

from evalsuite.store import Run
from reports import style
from reports.figures.rank_stability import RankStability
from reports.frames.evidence import evidence


def reread(data: pd.DataFrame) -> pd.DataFrame:
    return pd.read_csv(io.StringIO(data.to_csv(index=False)))


def test_stability_is_that_of_the_summary(study_run: Run) -> None:
    data = RankStability().data(study_run)
    assert len(data) == 3 * 5
    assert data["first"].sum() == 3
    summary = evidence(study_run).summary.query("adapter_label == 'none'")
    known = summary.set_index(["calibration_label", "quantizer_label"])["stability_class"]
    for row in data.itertuples():
        assert row.w == known[row.calibration_label, row.quantizer_label]
        assert 1 <= row.times <= row.draws == 2
    with style.applied():
        figure = RankStability().draw(reread(data))
    words = [text.get_text() for text in figure.axes[0].texts]
    assert len(words) == 3
    assert all(" of 2" in text.replace("\n", " ") for text in words)
    wide = style.Appearance(column=6.75, page=6.75, font_size=8)
    with style.applied(wide):
        figure = RankStability().draw(data)
        renderer = FigureCanvasAgg(figure).get_renderer()
        texts = [*figure.texts, *figure.axes[0].texts]
        assert max(text.get_window_extent(renderer).x1 for text in texts) <= figure.bbox.width
