import shutil
from pathlib import Path

import pandas as pd
import pytest
from _dummies.runs import make_run

from evalsuite import store
from evalsuite.files import write_json
from evalsuite.store import Run
from reports.frames.calibration_sets import effects
from reports.frames.evidence import evidence
from reports.frames.paradigms import paradigms
from reports.words.answers import Answers, _extreme, _of_sets, _too_few_domains, answer
from reports.words.shift import QUESTION as SHIFTED


@pytest.fixture(scope="module")
def said(study_run: Run) -> dict[str, list[str]]:
    return plain(answer(study_run, evidence(study_run)))


def plain(found: Answers) -> dict[str, list[str]]:
    return {
        each.question: [
            text.replace("\xa0", " ").replace("\N{MINUS SIGN}", "-") for _, own in each.tasks for text in own
        ]
        for each in found.answers
    }


def test_the_questions_that_a_run_has_numbers_for_are_answered(said: dict[str, list[str]]) -> None:
    assert [question.split()[1] for question in said] == ["the", "the", "augmentation", "adaptation", "quantization"]
    for sentences in said.values():
        assert all(text.endswith(".") and "nan" not in text for text in sentences)


def test_what_harms_and_helps_most_is_that_of_the_numbers(study_run: Run, said: dict[str, list[str]]) -> None:
    changed = effects(study_run)
    shown = changed[
        (changed["p_holm"] < 0.05) & (changed["low"] > 0) & (changed["calibration_label"] == "size 64, fog 3")
    ]
    distribution, _, chosen, *_ = said.values()
    text = " ".join(distribution)
    assert ("Most harmful on average: fog 3, which raises the mean error of" in text) == bool(len(shown))
    for worst in shown.sort_values("difference").tail(1).itertuples():
        assert f"{worst.difference * 100:.1f} points (95 % interval {worst.low * 100:.1f} to " in text
        assert f"p = {worst.p_holm:.3f}; 10 domains)" in text
    # What two calibration draws show of others is little: augmix may help, but is not shown to.
    helpful = "Most helpful on average: augmix, which lowers", "None of them is shown to lower"
    assert any(text.startswith(helpful) for text in chosen)
    assert any(text.startswith("None of them is shown to lower") for text in distribution)
    assert any("size" in text and "noise" in text for text in distribution)


def test_the_worst_class_is_held_against_chance_and_against_other_draws(said: dict[str, list[str]]) -> None:
    distribution, paradigm, *_ = said.values()
    (text,) = [text for text in paradigm if text.startswith("For rtn W4A4")]
    assert "the worst class, class 3, loses" in text
    assert "on average; chance alone would give" in text
    assert text.endswith(("p < 0.001.", *(f"p = 0.00{digit}." for digit in range(1, 10))))
    assert any("the same class is worst in each of 2 draws" in text for text in distribution)
    assert any("Kendall's W" in text for text in paradigm)


def test_the_best_of_equal_bits_is_named_and_who_is_shown_to_be_worse(
    study_run: Run, said: dict[str, list[str]]
) -> None:
    found = evidence(study_run)
    compared = paradigms(study_run, found)
    best = compared[compared["best"]].iloc[0]
    text = said["Does the choice of the calibration paradigm matter?"][0]
    assert text.startswith(
        f"Of 3 quantizers at W4A4, {best['quantizer_label']} has the lowest mean error, {best['error'] * 100:.1f} %"
    )
    worse = set(compared.loc[~compared["best"] & ~compared["not_distinct"], "quantizer_label"])
    clause = text.split("; worse: ")[1].split("; not ")[0] if worse else ""
    assert ("; worse: " in text) == bool(worse)
    assert all((name in clause) == (name in worse) for name in compared.loc[~compared["best"], "quantizer_label"])


def test_the_note_says_what_intervals_cover(study_run: Run, run: Run, tmp_path) -> None:
    assert "over test images and 2 calibration draws" in answer(study_run, evidence(study_run)).note
    folder = make_run(tmp_path, tasks=["a"], adapters=["none"], streams=["usual"], domains=["fog", "snow"], images=20)
    one = answer(store.load(folder), evidence(store.load(folder)))
    assert "test images alone" in one.note
    assert "whether the same class is worst in every draw cannot be said" in one.note
    assert "calibration sets of one network" not in one.note


def test_one_set_and_one_quantizer_answer_nothing(tmp_path) -> None:
    quantizers = [("full_precision", "FP32"), ("rtn", "W4A4")]
    options = {"tasks": ["a"], "streams": ["usual"], "domains": ["fog"], "images": 20}
    run = store.load(make_run(tmp_path / "none", quantizers=quantizers, adapters=["none"], **options))
    assert answer(run, evidence(run)) == Answers(())
    run = store.load(make_run(tmp_path / "tent", quantizers=quantizers, adapters=["none", "tent"], **options))
    assert list(plain(answer(run, evidence(run)))) == ["Does adaptation lower the error on the stream?"]


def test_too_few_domains_and_permutations_are_said(study_run: Run, tmp_path) -> None:
    few = tmp_path / "run"
    shutil.copytree(study_run.folder, few)
    study = store.load(few).study
    study["analysis"]["permutations"] = 20
    write_json(few / "study.json", study)
    run = store.load(few)
    found = evidence(run)
    assert any("permutations are too few" in text for own in plain(answer(run, found)).values() for text in own)
    changed = effects(run).assign(n=3, p_holm=1.0)
    (text,) = _too_few_domains(changed)
    assert "with 3 domains" in text.replace("\xa0", " ")
    assert "cannot fall below 1.00" in text
    assert _extreme(changed, changed.iloc[:0], "raises", "harmful").startswith("None of them is shown to raise")


def test_no_comparable_set_is_said() -> None:
    empty = pd.DataFrame(columns=["difference"])
    assert list(_of_sets(empty, empty, None)) == [  # type: ignore[arg-type]
        "No calibration set has a result that can be compared with the first one's."
    ]


def test_a_run_that_only_asks_of_shift_speaks_of_no_correction_over_nothing(tmp_path: Path) -> None:
    quantizers = [("full_precision", "FP32"), ("rtn", "W4A4")]
    small = {"tasks": ["a"], "adapters": ["none"], "streams": ["usual"], "domains": ["clean", "fog"]}
    run = store.load(make_run(tmp_path, quantizers=quantizers, **small))
    found = answer(run, evidence(run))
    assert [each.question for each in found.answers] == [SHIFTED]
    assert "Holm" not in found.note
