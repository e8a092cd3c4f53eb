from __future__ import annotations

import pytest
from _dummies.runs import ENGINE

from evalsuite import testing
from reports import style
from reports.figures.simulation_gap import SimulationGap
from reports.frames.engines import engine_gaps, over_all_images
from reports.frames.evidence import evidence
from reports.words.answers import answer
from reports.words.engines import QUESTION, of_engines


def test_the_figure_shows_flips_change_and_time(engine_run):
    data = SimulationGap().data(engine_run)
    assert data["domain"].tolist() == ["", "clean", "fog"]
    with style.applied():
        figure = SimulationGap().draw(data)
    flips, change, time = figure.axes
    assert [label.get_text().replace("\n", " ") for label in flips.get_yticklabels()] == [ENGINE]
    whole = over_all_images(data).iloc[0]
    assert any(line.get_xdata()[0] == pytest.approx(whole["flips"] * 100) for line in flips.get_lines())
    assert any(line.get_xdata()[0] == pytest.approx(whole["change"] * 100) for line in change.get_lines())
    assert [line.get_xdata()[0] for line in time.get_lines()] == [8.0, 12.5]  # filled, hollow
    testing.check_figure(SimulationGap, engine_run)


def test_the_gap_is_said_in_sentences(engine_run):
    (row,) = over_all_images(engine_gaps(engine_run)).to_dict("records")
    assert row["change"] > 0
    said = list(of_engines(engine_gaps(engine_run)))
    assert said[0].startswith(f"{ENGINE} names another class than its simulation for {100 * row['flips']:.1f}")
    assert "in batches of 16 it takes 8.00\N{NO-BREAK SPACE}ms an image" in said[0]
    assert "0.64 times as long as the network in full precision on the same engine" in said[0]
    differs = [text for text in said if text.startswith(f"The worst class of {ENGINE} differs")]
    assert bool(differs) == (row["worst_class"] != row["simulated_worst_class"])
    rises = [text for text in said if "more than chance explains" in text]
    assert bool(rises) == row["shown"]
    answered = {each.question: each for each in answer(engine_run, evidence(engine_run)).answers}
    assert answered[QUESTION].figures == ("simulation_gap",)
    assert answered[QUESTION].tasks == (("digits/vit", tuple(said)),)


def test_what_agrees_everywhere_is_said_so(engine_run):
    gaps = over_all_images(engine_gaps(engine_run)).assign(
        flips=0.0, shown=False, worst_class="5", simulated_worst_class="5"
    )
    (said,) = of_engines(gaps)
    assert said.startswith(
        f"{ENGINE} names the class that its simulation names for each of 60\N{NO-BREAK SPACE}images;"
    )
