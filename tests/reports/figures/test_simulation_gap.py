from __future__ import annotations

import shutil

import pytest
from _dummies.runs import make_run

from evalsuite import store, testing
from reports import style
from reports.figures.simulation_gap import SimulationGap
from reports.frames.engines import engine_gaps, over_all_images
from reports.frames.evidence import evidence
from reports.words.answers import answer
from reports.words.engines import QUESTION, of_engines

ENGINE = "rtn W8A8 on onnxruntime"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run whose four-bit network is said to be what an engine makes of the eight-bit one: class 3 suffers."""
    made = make_run(
        tmp_path_factory.mktemp("gap") / "made",
        tasks=["digits/vit"],
        quantizers=[("full_precision", "FP32"), ("rtn", "W8A8"), ("rtn", "W4A4")],
        adapters=["none"],
        streams=["usual"],
        domains=["clean", "fog"],
        images=60,
        bootstrap=50,
    )
    trials = store.load(made).trials.astype(object)
    (simulated,) = trials.loc[trials["bits"] == "W8A8", "trial"]
    on_engine = {"bits": "W8A8", "quantizer_label": ENGINE, "engine": "onnxruntime", "simulation": simulated}
    rows = [
        row | (on_engine | {"graph_bytes": 1234, "forward_seconds": 0.6} if row["bits"] == "W4A4" else {})
        for row in trials.where(trials.notna(), None).to_dict("records")
    ]
    folder = made.with_name("run")
    shutil.copytree(made, folder)
    store.write_trials(folder, rows)
    return store.load(folder)


def test_the_figure_shows_flips_change_and_time(run):
    data = SimulationGap().data(run)
    assert data["domain"].tolist() == ["", "clean", "fog"]
    with style.applied():
        figure = SimulationGap().draw(data)
    flips, change, time = figure.axes
    assert [label.get_text().replace("\n", " ") for label in flips.get_yticklabels()] == [ENGINE]
    whole = over_all_images(data).iloc[0]
    assert any(line.get_xdata()[0] == pytest.approx(whole["flips"] * 100) for line in flips.get_lines())
    assert any(line.get_xdata()[0] == pytest.approx(whole["change"] * 100) for line in change.get_lines())
    assert [line.get_xdata()[0] for line in time.get_lines()] == [pytest.approx(1000 * 0.6 / 120)]
    testing.check_figure(SimulationGap, run)


def test_the_gap_is_said_in_sentences(run):
    (row,) = over_all_images(engine_gaps(run)).to_dict("records")
    assert row["change"] > 0
    said = list(of_engines(engine_gaps(run)))
    assert said[0].startswith(f"{ENGINE} names another class than its simulation for {100 * row['flips']:.1f}")
    assert "5.00\N{NO-BREAK SPACE}ms an image" in said[0]
    differs = [text for text in said if text.startswith(f"The worst class of {ENGINE} differs")]
    assert bool(differs) == (row["worst_class"] != row["simulated_worst_class"])
    rises = [text for text in said if "more than chance explains" in text]
    assert bool(rises) == row["shown"]
    answered = {each.question: each for each in answer(run, evidence(run)).answers}
    assert answered[QUESTION].figures == ("simulation_gap",)
    assert answered[QUESTION].tasks == (("digits/vit", tuple(said)),)


def test_what_agrees_everywhere_is_said_so(run):
    gaps = over_all_images(engine_gaps(run)).assign(flips=0.0, shown=False, worst_class="5", simulated_worst_class="5")
    (said,) = of_engines(gaps)
    assert said.startswith(
        f"{ENGINE} names the class that its simulation names for each of 60\N{NO-BREAK SPACE}images;"
    )
