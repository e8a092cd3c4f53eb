from reports.words.first_screen import methods, selected


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
