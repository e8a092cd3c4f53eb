import pytest

from evalsuite.store import Run
from reports.frames.evidence import evidence
from reports.frames.first_screen import networks
from reports.words.first_screen import asked, methods, selected


def test_methods_are_told_without_marks_of_documentation() -> None:
    told = {"bn_adapt": "The ``statistics`` that :func:`a.b` found.", "mine.py:Own": "Ours: 5 < 6.", "silent": ""}
    expected = [("bn adapt", "The statistics that a.b found."), ("Own", "Ours: 5 < 6.")]
    assert methods({"methods": told}) == expected
    assert methods({}) == methods({"methods": ["odd"]}) == []


def test_what_is_selected_and_renamed_is_said_and_nothing_else() -> None:
    assert selected({}, {}) == []
    chosen, called = selected({"quantizer": ("rtn", "gptq"), "bits": ("W4A4",)}, {"rtn W4A4": "RTN"})
    assert chosen.startswith("Selected: quantizer rtn, gptq; bits W4A4.")
    assert "corrected over all that was run" in chosen
    assert "rtn W4A4 is RTN." in called


def test_what_is_asked_is_what_the_verdict_is_about(study_run: Run, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there are more networks than room, the verdict is about those of the first calibration set."""
    every = asked(study_run, evidence(study_run)).replace("\N{NO-BREAK SPACE}", " ")
    assert every.startswith("Which of 15 quantized networks is least reliable")
    assert "calibrated" not in every
    monkeypatch.setattr("reports.frames.methods._MOST_NETWORKS", 14)
    found = evidence(study_run)
    text = asked(study_run, found).replace("\N{NO-BREAK SPACE}", " ")
    assert text.startswith(f"Which of {len(networks(study_run, found))} quantized networks is least reliable")
    assert ", calibrated on size 64, on 1 task" in text
    assert text.endswith("; and what do 2 adapters and 4 other calibration sets change?")
    assert asked(run, evidence(run)).endswith("; and what does 1\N{NO-BREAK SPACE}adapter change?")
