"""No text of a figure leaves its canvas or lies on another, however methods are called; figures fit others' layouts."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from _dummies.diagnosed import make_diagnosed_run
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from matplotlib.text import Text

from evalsuite import registry
from evalsuite.errors import RequestError
from evalsuite.optional_members import pages_of
from evalsuite.store import Run
from reports import style
from reports.appearance import Appearance
from reports.frames.views import QUANTIZERS

QUICK: dict[str, Any] = {"deadline": None, "derandomize": True, "phases": [Phase.explicit, Phase.generate]}
NAMES = registry.names("figures")
LOOKS = [Appearance(), Appearance(column=3.25, page=3.25, font_size=8.0)]
words = st.text("abcdefghiklmnoprstW48", min_size=1, max_size=14)
names = st.lists(words, min_size=1, max_size=6).map(" ".join)


def shown(figure: Figure) -> list[Text]:
    """Return the texts that are drawn."""
    return [each for each in figure.findobj(Text) if each.get_visible() and each.get_text().strip()]


def boxes(figure: Figure) -> dict[str, np.ndarray]:
    figure.draw_without_rendering()
    found = {}
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            for tick in axis.get_major_ticks():
                tick.label1.set_visible(tick.label1.get_visible() and low <= tick.get_loc() <= high)
    for number, text in enumerate(shown(figure)):
        if text.get_rotation() == 0:
            found[f"{number} {text.get_text()}"] = np.array(text.get_window_extent().extents)
    return found


def outside(figure: Figure) -> list[str]:
    """Return the texts beyond the edge, by more than what a printer sees (a point and a half)."""
    width, height = figure.bbox.width, figure.bbox.height
    slack = 1.5 / 72 * figure.dpi
    return [
        name
        for name, (x0, y0, x1, y1) in boxes(figure).items()
        if x0 < -slack or y0 < -slack or x1 > width + slack or y1 > height + slack
    ]


def overlapping(figure: Figure) -> list[tuple[str, str]]:
    """Return pairs of texts of one axis, or of the figure itself, that lie on each other by over a third of a line."""
    found = []
    slack = 2.3 / 72 * figure.dpi
    for axes in figure.axes:
        for labels in (axes.get_xticklabels(), axes.get_yticklabels()):
            level = [each for each in labels if each.get_visible() and each.get_rotation() == 0]
            seen = [(each.get_text(), each.get_window_extent().extents) for each in level if each.get_text().strip()]
            for (a, one), (b, two) in itertools.combinations(seen, 2):
                across = min(one[2], two[2]) - max(one[0], two[0])
                if across > slack and min(one[3], two[3]) - max(one[1], two[1]) > slack:
                    found.append((a, b))
    return found


def renamed(data: pd.DataFrame, called: list[str]) -> pd.DataFrame:
    """Call methods otherwise: as many as there are names, each by its own."""
    changed = data.copy()
    for column in ("quantizer_label", "network", "adapter_label", "line", "method", "base"):
        if column in changed:
            known = [label for label in changed[column].dropna().unique() if label != ""]
            if column == "line":
                known = [label for label in known if label != QUANTIZERS]
            new = {label: f"{called[k % len(called)]} {k}" for k, label in enumerate(known)}
            changed[column] = changed[column].map(lambda label, new=new: new.get(label, label))
    return changed


@pytest.fixture(scope="module")
def frames(
    study_run: Run, run: Run, engine_run: Run, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, list[pd.DataFrame]]:
    found: dict[str, list[pd.DataFrame]] = {name: [] for name in NAMES}
    diagnosed = make_diagnosed_run(tmp_path_factory.mktemp("diagnosed") / "run")
    for each in (study_run, run, engine_run, diagnosed):  # one after the other: only the last analysis is kept
        for name in NAMES:
            data = registry.load("figures", name)().data(each)
            found[name] += [data] if len(data) else []
    return found


def test_every_figure_has_data_in_one_of_the_runs(frames: dict[str, list[pd.DataFrame]]) -> None:
    assert [name for name, own in frames.items() if not own] == []


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=2, suppress_health_check=list(HealthCheck), **QUICK)
@given(
    called=st.lists(names, min_size=1, max_size=12, unique=True), look=st.sampled_from(LOOKS), place=st.integers(0, 1)
)
def test_texts_stay_on_the_canvas(
    frames: dict[str, list[pd.DataFrame]], name: str, called: list[str], look: Appearance, place: int
) -> None:
    figure, own = registry.load("figures", name)(), frames[name]
    with style.applied(look):
        page = pages_of(figure, renamed(own[place % len(own)], called))[0]
        drawn = figure.draw(page)
        assert drawn.get_figwidth() <= look.page + 1e-6
        assert outside(drawn) == []
        assert overlapping(drawn) == []


ranks = st.integers(1, 12).flatmap(
    lambda k: st.tuples(st.lists(names, min_size=k, max_size=k, unique=True), st.integers(0, 2**32 - 1))
)


@settings(max_examples=4, **QUICK)
@given(methods=ranks, look=st.sampled_from(LOOKS))
def test_labels_of_up_to_twelve_ranks_do_not_touch(methods: tuple[list[str], int], look: Appearance) -> None:
    called, seed = methods
    ranks = np.random.default_rng(seed).permuted(np.tile(np.arange(len(called)) + 1.0, (7, 1)), axis=1).mean(axis=0)
    data = pd.DataFrame({"method": called, "mean_rank": ranks, "task": "digits/resnet", "factor": "quantizer"})
    facts: dict[str, Any] = {"critical_difference": 2.3, "p": 0.01, "unit": "domain", "n": 7, "methods": len(called)}
    labels = {"quantizer_label": None, "calibration_label": "128 images", "adapter_label": "none"}
    ordered = data.sort_values("mean_rank", ignore_index=True)
    behind = [
        json.dumps([k for k in ordered.index if ordered["mean_rank"][k] - rank > 2.3]) for rank in ordered["mean_rank"]
    ]
    data = ordered.assign(**facts, **labels, stream_label="usual order", error=0.1, context="", before=behind)
    data = data.assign(place=data.index)
    with style.applied(look):
        drawn = registry.load("figures", "critical_difference")().draw(data)
        assert drawn.get_figwidth() == pytest.approx(look.column)
        assert outside(drawn) == []
        found = list(boxes(drawn).items())
    for (a, one), (b, two) in itertools.combinations(found, 2):
        across = min(one[2], two[2]) - max(one[0], two[0])
        assert across < 3 or min(one[3], two[3]) - max(one[1], two[1]) < 5, (a, b)


@pytest.mark.parametrize("name", NAMES)
def test_a_figure_takes_the_place_of_axes(frames: dict[str, list[pd.DataFrame]], name: str) -> None:
    figure: Any = registry.load("figures", name)()
    page = pages_of(figure, frames[name][0])[0]
    whole = Figure(figsize=(8, 4), layout="constrained")
    left, right = whole.subplots(1, 2)
    left.plot([0, 1], [0, 1])
    assert figure.draw(page, ax=right) is whole
    assert right not in whole.axes
    own = whole.subfigs[0]
    assert own.bbox.x0 == pytest.approx(whole.bbox.width / 2)
    assert own.axes


def draws() -> list[Callable[..., Any]]:
    return [registry.load("figures", name)().draw for name in ("severity_curves", "critical_difference")]


def test_a_place_that_cannot_be_taken_is_refused(frames: dict[str, list[pd.DataFrame]]) -> None:
    curves, ranked = draws()
    loose = Figure().add_axes((0.1, 0.1, 0.8, 0.8))
    with pytest.raises(RequestError, match="no place in a grid"):
        ranked(frames["critical_difference"][0], ax=loose)
    with pytest.raises(RequestError, match="layout='constrained'"):
        curves(frames["severity_curves"][0], ax=Figure().subplots())
