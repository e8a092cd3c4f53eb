import warnings

from evalsuite.errors import DamageWarning, one_line_warnings


def test_own_warnings_are_shown_as_one_line_and_others_as_ever(monkeypatch):
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)
    plain = warnings.formatwarning("a", UserWarning, "f.py", 3)
    one_line_warnings()
    assert warnings.formatwarning(DamageWarning("a file\nis damaged"), DamageWarning, "f.py", 3) == (
        "evalsuite: a file is damaged\n"
    )
    assert warnings.formatwarning("a", UserWarning, "f.py", 3) == plain
