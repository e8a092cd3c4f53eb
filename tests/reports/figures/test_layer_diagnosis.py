from __future__ import annotations

import itertools

import pytest
from _dummies.diagnosed import LAYERS, make_diagnosed_run

from evalsuite import store, testing
from evalsuite.diagnoses import CALIBRATION
from reports import style
from reports.figures.layer_diagnosis import LayerDiagnosis
from reports.frames.diagnosis import diagnosis
from reports.frames.evidence import evidence
from reports.words.answers import answer
from reports.words.diagnosis import QUESTION, of_diagnoses


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> store.Run:
    return make_diagnosed_run(tmp_path_factory.mktemp("diagnosed") / "run")


def test_layers_stand_as_they_run_and_domains_behind_calibration(run: store.Run) -> None:
    data = LayerDiagnosis().data(run)
    own = data[data["network"] == data["network"].iloc[0]]
    assert own["layer"].drop_duplicates().tolist() == LAYERS
    columns = own.drop_duplicates("column")
    assert columns["domain"].tolist() == [CALIBRATION, "clean", "fog", "fog"]
    with style.applied():
        for page in LayerDiagnosis().pages(data):
            figure = LayerDiagnosis().draw(page)
            assert figure.get_figheight() <= style.TALL + 1e-6
            first = figure.axes[0]
            assert (first.get_ylim(), first.get_yticklabels()[0].get_text()) == ((len(LAYERS), 0), "stem")
            assert {"fog 1", "fog 5", "clean", CALIBRATION} <= {text.get_text() for text in first.texts}
            scales = [axes.get_xlabel().replace("\n", " ") for axes in figure.axes if axes.get_xlabel()]
            coded = page["unused"].notna().any()
            assert scales == ["codes unused (%)"] * bool(coded) + ["signal over noise (dB)"]
            figure.canvas.draw()
            labels = [label for label in first.get_yticklabels() if label.get_text()]
            boxes = [label.get_window_extent() for label in labels]
            assert min(box.x0 for box in boxes) >= 0
            assert all(upper.y0 >= lower.y1 - 2 for upper, lower in itertools.pairwise(boxes))
    testing.check_figure(LayerDiagnosis, run)


def test_what_breaks_is_said_in_a_sentence(run: store.Run) -> None:
    said = [text.replace("\N{NO-BREAK SPACE}", " ") for text in of_diagnoses(diagnosis(run))]
    codes, formats, note = said
    assert ": under fog 5, 62.0 % of the codes of head stay unused (calibration: 11.0 %). " in codes
    assert "Under fog 5, 25.0 % of what stem is given lies beyond its grid (calibration: 1.0 %). " in codes
    noise = "noisiest at head under fog 5, with 3.2 dB of signal over quantization noise (calibration: 22.9 dB)."
    assert codes.endswith(noise)
    assert "no integers" in formats
    assert "noisiest at head" in formats
    assert note.startswith("Each is of 8 images of a domain")
    answered = {each.question: each for each in answer(run, evidence(run)).answers}
    assert answered[QUESTION].figures == ("layer_diagnosis",)
    assert answered[QUESTION].tasks == (("digits/vit", tuple(of_diagnoses(diagnosis(run)))),)


def test_no_layer_is_named_where_none_leaves_more_unused_than_on_calibration_images(run: store.Run) -> None:
    found = diagnosis(run).assign(unused_change=0.0, clipped=0.01, calibration_clipped=0.01)
    said = next(iter(of_diagnoses(found)))
    assert "no layer leaves more of its codes unused" in said
    assert "beyond its grid" not in said
