from __future__ import annotations

import io
import json

import pytest
from _dummies import gated, plugins
from _dummies.studies import QUIET, execute, tiny
from rich.console import Console

from evalsuite.errors import RequestError
from evalsuite.registry import configure
from evalsuite.running import gate, harness
from evalsuite.running.workspace import Workspace
from evalsuite.study.file import parse
from evalsuite.study.tables import Gate


def check(name, folder, settings=Gate(), digest="d", console=QUIET):  # noqa: B008 - frozen
    task = configure("tasks", name)
    return gate.check({"it": task}, {task: digest}, Workspace(folder), settings, console)


def test_a_sound_network_passes_and_is_described(tmp_path):
    facts = check(plugins.TASK, tmp_path)["it"]
    assert facts["images"] == 48
    assert 0 <= facts["full_precision_error"] <= 0.1
    assert abs(facts["w8a8_error"] - facts["full_precision_error"]) <= 1 / 48


def test_a_network_that_eight_bits_harm_is_stopped_with_the_layer(tmp_path):
    text = io.StringIO()
    with pytest.raises(RequestError, match=r"it: \d.* at W8A8.*expected at most 1 points more.* is 2 \(") as caught:
        check(gated.LOUD, tmp_path, console=Console(file=text, width=120))
    assert "\n" not in str(caught.value)
    rows = [line.replace("│", " ").split() for line in text.getvalue().splitlines() if line.startswith("│ ")]
    assert [row[0] for row in rows] == ["2", "1"]
    assert float(rows[0][1]) < 10 < float(rows[1][1])


def test_points_say_how_much_is_too_much(tmp_path):
    facts = check(gated.LOUD, tmp_path, Gate(points=100))["it"]
    assert facts["w8a8_error"] - facts["full_precision_error"] > 0.2
    assert check(gated.LOUD, tmp_path, Gate(points=0)) == {}


def test_one_image_is_never_held_against_a_network(tmp_path, monkeypatch):
    facts = {"images": 48, "full_precision_error": 0.0, "w8a8_error": 1 / 48}
    monkeypatch.setattr(gate, "measure", lambda *arguments: facts)
    assert check(plugins.TASK, tmp_path)["it"]["w8a8_error"] == 1 / 48
    facts["w8a8_error"] = 2 / 48
    with pytest.raises(RequestError, match="expected at most 1 points more"):
        check(plugins.TASK, tmp_path)


def test_a_network_that_cannot_be_quantized_is_left_to_its_trials(tmp_path):
    facts = check(gated.FOREIGN, tmp_path)["it"]
    assert set(facts) == {"key", "refused"}
    assert facts["refused"].startswith("1 (_Product) computes mm")


def test_what_is_known_is_not_measured_again(tmp_path, monkeypatch):
    first = check(plugins.TASK, tmp_path)
    (tmp_path / "study.json").write_text(json.dumps({"gate": first}))
    monkeypatch.setattr(gate, "measure", lambda *arguments: {"images": 1})
    assert check(plugins.TASK, tmp_path) == first
    assert check(plugins.TASK, tmp_path, digest="other")["it"]["images"] == 1
    assert check(plugins.TASK, tmp_path, Gate(images=7))["it"]["images"] == 1
    (tmp_path / "study.json").write_text("{broken")
    assert check(plugins.TASK, tmp_path)["it"]["images"] == 1


def test_a_run_keeps_what_the_gate_found(tmp_path):
    execute(tiny(), tmp_path / "run")
    written = json.loads((tmp_path / "run" / "study.json").read_text())
    errors = {"full_precision_error", "w8a8_error", "guessing_error"}
    assert set(written["gate"][plugins.TASK]) == {"key", "images", *errors}
    assert written["settings"]["gate"] == {"points": 1.0, "images": 1000}


def test_a_stopped_run_writes_nothing(tmp_path):
    with pytest.raises(RequestError, match=rf"^{gated.LOUD}"):
        execute(tiny(tasks=[gated.LOUD]), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_nothing_is_gated_in_full_precision(tmp_path, monkeypatch):
    monkeypatch.setattr(gate, "measure", None)
    study = tiny(tasks=[gated.LOUD], quantizer=[{"method": "full_precision"}])
    execute(study, tmp_path / "run")
    assert json.loads((tmp_path / "run" / "study.json").read_text())["gate"] == {}


@pytest.mark.parametrize("wrong", [{"points": -1}, {"images": 0}])
def test_impossible_settings_are_named(wrong):
    with pytest.raises(RequestError, match=f"{next(iter(wrong))} = .*expected"):
        Gate(**wrong)


@pytest.mark.parametrize(("wrong", "match"), [({"point": 1}, "did you mean 'points'"), ({"points": "1"}, "points")])
def test_a_wrong_table_is_refused(wrong, match):
    with pytest.raises(RequestError, match=match):
        parse({"gate": wrong} | _raw())


def _raw():
    from _dummies.studies import raw

    return raw()


def test_a_network_no_better_than_a_guess_is_doubted_and_a_reader_told(tmp_path, monkeypatch):
    """Wrong means, deviations or classes: a study of it would say that nothing differs."""
    useless = {"images": 48, "full_precision_error": 0.9, "w8a8_error": 0.9, "guessing_error": 0.75}
    monkeypatch.setattr(gate, "measure", lambda *arguments: useless)
    text = io.StringIO()
    harness.execute(tiny(), tmp_path / "run", in_process=True, console=Console(file=text, width=80))
    (said,) = gate.doubts({"mine": useless})
    assert "the network of mine errs on 90.0% of 48 clean test images" in said
    assert "for all errs on 75.0%" in said
    notes = json.loads((tmp_path / "run" / "study.json").read_text())["notes"]
    assert notes[0] == said.replace("mine", plugins.TASK)
    assert notes[0] in text.getvalue()


def test_a_network_that_knows_something_is_not_doubted(tmp_path):
    facts = check(plugins.TASK, tmp_path)
    assert facts["it"]["guessing_error"] >= 0.5
    assert gate.doubts(facts) == []
    of_one_class = {"images": 9, "full_precision_error": 0.0, "w8a8_error": 0.0, "guessing_error": 0.0}
    assert gate.doubts({"it": of_one_class, "foreign": {"key": "k", "refused": "why"}}) == []
