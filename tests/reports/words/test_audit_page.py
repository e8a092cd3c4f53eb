import pytest
from _dummies import verdicts

from evalsuite.analysis.verdict import Need, Verdict
from reports.words.audit_page import (
    breakages,
    checked,
    clean,
    failed,
    lost_line,
    need_lines,
    needed,
    ranked,
    some,
    unbroken,
    untold,
    verdict_lines,
)
from reports.words.numbers import NOTHING

MOST = 25
SPACE = "\N{NO-BREAK SPACE}"


def plain(text):
    return text.replace(SPACE, " ")


@pytest.mark.parametrize("made", verdicts.ALL.values(), ids=verdicts.ALL)
def test_a_terminal_gets_few_lines_each_of_them_one_that_it_can_print(made):
    lines = verdict_lines(made())
    assert 0 < len(lines) <= MOST
    assert all(line.replace(SPACE, " ").isprintable() and line for line in lines)


def test_no_list_makes_more_lines_however_long_it_is():
    verdict = verdicts.fragile()
    many = {
        "gates": list(verdict.gates) * 40,
        "conformance": [verdicts.SPOILT] * 40,
        "reasons": ["because"] * 40,
        "drops": [drop.model_copy(update={"name": f"{drop.name} {n}"}) for drop in verdict.drops for n in range(40)],
    }
    for reached in (True, False):
        lines = verdict_lines(verdict.model_copy(update=many | {"reached": reached}))
        assert len(lines) <= MOST
        assert any("--fail-if" in line for line in lines)


def test_the_terminal_names_the_ruined_class_with_its_p_and_the_failed_gate():
    lines = [plain(line) for line in verdict_lines(verdicts.fragile())]
    assert lines[0].startswith("fragile: verdict reached")
    assert any(line.startswith("Class three loses 45.0 points") and "p < 0.001" in line for line in lines)
    assert any("failed: --fail-if worst_class_drop > 5" in line for line in lines)
    worst = "Worst class: ▼ worse than rtn W4A4 +38.0 (32.0 to 44.0) points (its worst: three"
    assert any(line.startswith(worst) for line in lines)


def test_without_a_verdict_the_check_and_its_mend_are_said_and_nothing_is_claimed():
    lines = verdict_lines(verdicts.broken())
    assert lines[0] == "broken: no verdict."
    assert any("bits are honoured" in line and "round the weights in prepare()" in line for line in lines)
    assert not any(word in line for line in lines for word in ("better", "worse", "told apart"))
    assert lines[2].startswith("bits are honoured"), "what makes numbers worthless comes before warnings"


def test_what_lost_every_trial_says_why():
    text = " ".join(plain(line) for line in verdict_lines(verdicts.lost()))
    for needle in ("no trial of the target is done", "88 failed and 2 refused", "killed after 60 s"):
        assert needle in text


def test_what_breaks_is_named_once_with_the_largest_loss_and_the_others_beside_it():
    verdict = verdicts.hostile()
    found = breakages(verdict)
    shown = {(drop.kind, drop.name) for drop in verdict.drops if drop.shown}
    assert len(found) == len(shown) > 1
    assert [each.kind for each in found] == ["Class", "Calibration set"]
    assert "30.0" in plain(found[0].loss)
    assert found[0].also.count("30.0 at W4A4") == 2  # on the two other tasks
    assert breakages(verdicts.good()) == []


def test_of_every_kind_the_largest_loss_comes_before_the_second_of_any():
    verdict = verdicts.fragile()
    drops = [drop.model_copy(update={"shown": True}) for drop in verdict.drops]
    found = breakages(verdict.model_copy(update={"drops": drops}))
    assert [each.kind for each in found[:3]] == ["Class", "Domain", "Calibration set"]
    assert [each.name for each in found[:2]] == ["three", "contrast"]
    assert len(found) == len({(drop.kind, drop.name) for drop in drops})


def test_where_nothing_breaks_the_largest_loss_is_said_without_a_claim():
    text = plain(unbroken(verdicts.good()))
    assert text.startswith("No class, domain or calibration set is shown to lose more than chance explains.")
    assert "domain contrast: 7.0 points at W4A4" in text
    assert unbroken(verdicts.bare()) == "No loss by class, domain or calibration set was tested."


@pytest.mark.parametrize(
    ("need", "text"),
    [
        (
            {"images": 2400, "draws": 9},
            "to tell 1.0 points would take 2,400 test images a domain or 9 calibration draws",
        ),
        ({"images": None, "most_images": 100_000}, "to tell 1.0 points, 100,000 test images a domain would not do"),
        ({"draws": None, "most_draws": 64, "images": 5}, "to tell 1.0 points would take 5 test images a domain"),
        (
            {"note": "one draw says nothing of draws"},
            "what would tell 1.0 points is not known: one draw says nothing of draws",
        ),
        ({}, NOTHING),
    ],
)
def test_a_need_says_what_would_do_and_what_would_not(need, text):
    assert plain(needed(Need(size=0.01, power=0.8, **need))) == text


def test_a_need_names_the_condition_where_the_question_has_several():
    lines = [plain(line) for line in need_lines(verdicts.good())]
    needle = "With adaptation, rtn W8A8, tent: to tell 1.0 points would take 2,400 test images a domain"
    assert any(line.startswith(needle) for line in lines)
    assert len(lines) == len(set(lines)) == len(untold(verdicts.good()))


def test_a_long_command_is_kept_whole_to_be_copied():
    verdict = verdicts.good().model_copy(update={"command": "evalsuite audit " + "x" * 5000})
    assert clean(verdict).command == verdict.command


def test_every_claim_that_is_not_told_apart_is_listed():
    verdict = verdicts.good()
    expected = [claim for claim in verdict.claims if claim.standing == "not told apart"]
    assert sorted(map(repr, untold(verdict))) == sorted(map(repr, expected))


def test_text_of_a_verdict_becomes_one_printable_line_and_numbers_stay():
    verdict = verdicts.hostile()
    found = clean(verdict)
    assert "\x1b" in verdict.target_label
    assert found.target_label.isprintable()
    assert all(drop.name.isprintable() for drop in found.drops)
    assert [claim.estimate for claim in found.claims] == [claim.estimate for claim in verdict.claims]
    assert clean(found) == found
    assert clean(verdicts.fragile()) == verdicts.fragile()


def test_ranks_checks_and_lost_trials_in_words():
    verdict = verdicts.good()
    assert ranked(verdict)[1] == "W4A4: place 1 of 3 by mean rank 1.40; the data allow 1 to 2."
    assert plain(checked(verdict)) == "Of 5 checks 3 passed, 1 failed and 1 not applicable."
    assert plain(lost_line(verdict)) == "Of 90 trials of the target 2 refused"
    assert failed(verdict)[0].endswith("Mend: raise evalsuite.errors.Refused where there are too few images.")


def test_a_cut_list_says_how_many_are_left_out():
    assert some(list("abc"), 3) == list("abc")
    assert some(list("abcd"), 3) == ["a", "b", "... and 2 more, see the page's tables"]


def test_the_values_are_read_back_from_what_was_written(tmp_path):
    verdict = verdicts.hostile()
    assert Verdict.model_validate_json(verdict.write(tmp_path).read_text(encoding="utf-8")) == verdict
