from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
from _dummies.runs import make_run

from evalsuite import store, testing
from evalsuite.diagnoses import CALIBRATION, Diagnosis, write_diagnosis
from evalsuite.quantization.diagnosis import COLUMNS
from reports import style
from reports.figures.layer_diagnosis import LayerDiagnosis
from reports.frames.diagnosis import diagnosis
from reports.frames.evidence import evidence
from reports.words.answers import answer
from reports.words.diagnosis import QUESTION, of_diagnoses

LAYERS = ["stem", *(f"blocks.{number}.attention.projection" for number in range(70)), "head"]


def table(has_codes: bool) -> pd.DataFrame:
    """Return a diagnosis in which ``head`` leaves most codes unused under fog, and ``stem`` clips most."""
    rows = []
    for domain, severity in ((CALIBRATION, None), ("fog", 1), ("clean", 0), ("fog", 5)):
        for place, layer in enumerate(LAYERS):
            shifted = severity == 5
            codes = {
                "unused": 0.62 if shifted and layer == "head" else 0.11,
                "clipped_low": 0.0,
                "clipped_high": 0.25 if shifted and layer == "stem" else 0.01,
            }
            numbers = dict.fromkeys(COLUMNS, np.nan) | (codes if has_codes else {})
            numbers |= {"weight_bits": 4, "activation_bits": 4, "snr_db": np.inf if place == 0 else 30.0 - 0.1 * place}
            if shifted and layer == "head":
                numbers["snr_db"] = 3.25
            rows.append(numbers | {"layer": layer, "domain": domain, "severity": severity, "images": 8, "place": place})
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> store.Run:
    folder = make_run(
        tmp_path_factory.mktemp("diagnosed") / "run",
        tasks=["digits/vit"],
        quantizers=[("full_precision", "FP32"), ("rtn", "W4A4"), ("rtn", "W8A8")],
        adapters=["none"],
        streams=["usual"],
        domains=["clean", "fog"],
        images=30,
        bootstrap=20,
    )
    trials = store.load(folder).trials
    for bits in ("W4A4", "W8A8"):
        own = tuple(trials.loc[trials["bits"] == bits, "trial"])
        write_diagnosis(folder, bits, "key", Diagnosis(own, table(has_codes=bits == "W4A4")))
    return store.load(folder)


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
            scales = [axes.get_xlabel() for axes in figure.axes if axes.get_xlabel()]
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
