import math
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from _dummies.runs import make_run

from evalsuite import store
from evalsuite.store import Run
from reports.frames.evidence import Comparison, Evidence, evidence, with_room
from reports.frames.methods import KEYS
from reports.words.verdict import _helpers, change, group_sentence, judge, mean_sentence


def plain(text: str) -> str:
    return text.replace("\u00a0", " ")


def method(**changes: Any) -> SimpleNamespace:
    values = {
        "network": "rtn W4A4",
        "adapter_label": "none",
        "unadapted": True,
        "error": 0.223,
        "drop": 0.123,
        "drop_low": 0.11,
        "drop_high": 0.136,
        "worst_drop_class": "8",
        "worst_drop_class_value": 0.251,
        "worst_drop_class_null": 0.16,
        "worst_drop_class_p_holm": 0.001,
        "worst_drop_domain": "glass_blur",
        "worst_drop_domain_value": 0.2,
        "worst_drop_domain_null": 0.15,
        "worst_drop_domain_p_holm": 0.3,
        "least_p": 0.001,
    }
    return SimpleNamespace(**(values | changes))


def test_a_shown_change_is_stated_with_its_size_interval_and_p() -> None:
    assert plain(change("zoa", "the error of rtn W4A4", Comparison(-0.031, -0.042, -0.02, 0.012, 15))) == (
        "zoa lowers the error of rtn W4A4 by 3.1 points (95 % interval 2.0 to 4.2; p = 0.012)"
    )
    assert plain(change("tent", "the error", Comparison(0.031, 0.02, 0.042, 0.0001, 15), ", from 1 to 2")) == (
        "tent raises the error by 3.1 points, from 1 to 2 (95 % interval 2.0 to 4.2; p < 0.001)"
    )


def test_a_change_that_is_not_shown_is_called_so() -> None:
    assert plain(change("zoa", "the error", Comparison(-0.003, -0.01, 0.004, 0.4, 15))) == (
        "zoa is not shown to change the error "
        "(difference \N{MINUS SIGN}0.3 points; 95 % interval \N{MINUS SIGN}1.0 to 0.4; p = 0.400)"
    )


@pytest.mark.parametrize(
    ("p", "note", "reason"),
    [
        (0.2, "", "p = 0.200"),
        (math.nan, "3 of 3 pairs differ", "not tested: 3 of 3 pairs differ"),
        (math.nan, "", "not tested: too few domains"),
    ],
)
def test_an_interval_without_a_test_speaks_of_these_images_only(p: float, note: str, reason: str) -> None:
    assert plain(change("zoa", "the error", Comparison(-0.031, -0.042, -0.02, p, 3, note))) == (
        "zoa lowers the error by 3.1 points, on these images (95 % interval 2.0 to 4.2), "
        f"but that this holds across domains is not shown ({reason})"
    )


def test_a_significant_test_with_an_interval_around_zero_is_no_claim() -> None:
    assert plain(change("zoa", "the error", Comparison(-0.01, -0.03, 0.01, 0.01, 15))).startswith(
        "zoa is not shown to change the error ("
    )


def test_mean_sentence() -> None:
    found = Comparison(0.123, 0.11, 0.136, 0.002, 15)
    assert plain(mean_sentence(method(), 0.1, found)) == (
        "rtn W4A4 raises the mean error by 12.3 points, from 10.0 % at full precision to 22.3 % "
        "(95 % interval 11.0 to 13.6; p = 0.002)."
    )
    assert plain(mean_sentence(method(unadapted=False, adapter_label="zoa"), 0.1, None)) == (
        "The drop of rtn W4A4 with zoa is 12.3 points on average, from 10.0 % at full precision to 22.3 % "
        "(95 % interval 11.0 to 13.6, not tested)."
    )
    nothing = plain(mean_sentence(method(), 0.1, Comparison(0.001, -0.01, 0.012, 0.8, 15)))
    assert nothing.startswith("rtn W4A4 is not shown to change the mean error (")
    assert nothing.endswith(".")


def test_group_sentence_where_harm_is_shown() -> None:
    assert plain(group_sentence(method(), "class")) == (
        "Its worst class, 8, loses 25.1 points where chance alone would give 16.0 (p = 0.001)."
    )


def test_group_sentence_where_harm_is_not_shown() -> None:
    assert plain(group_sentence(method(), "domain")) == (
        "It is not shown to harm one domain more than another: "
        "the worst, glass blur, loses 20.0 points where chance alone would give 15.0 (p = 0.300)."
    )


def test_group_sentence_where_the_permutations_are_too_few() -> None:
    text = plain(group_sentence(method(worst_drop_class_p_holm=0.15, least_p=0.15), "class"))
    assert "not shown" not in text
    assert text.endswith("the permutations are too few to tell whether that is chance (p = 0.150).")


def test_group_sentence_where_no_group_loses_or_nothing_is_known() -> None:
    gains = plain(group_sentence(method(worst_drop_class_value=-0.02, worst_drop_class_p_holm=0.001), "class"))
    assert gains.startswith("In no class does it make more errors than full precision")
    unknown = plain(group_sentence(method(worst_drop_class_p_holm=math.nan), "class"))
    assert unknown.startswith("Nothing can be said about its worst class")


def test_the_lead_names_the_network_that_harms_a_class_most(run: Run) -> None:
    found = judge(run, evidence(run))
    lead = plain(found.lead)
    methods = evidence(run).methods
    quantized = methods[~methods["full_precision"] & methods["unadapted"]]
    worst = quantized.loc[quantized["worst_drop_class_value"].idxmax()]
    assert lead.startswith(
        f"By its worst class, the least reliable network is rtn W4A4 on {worst['task']}: class 3 loses "
        f"{worst['worst_drop_class_value'] * 100:.1f} points where chance alone would give "
    )
    assert "No adapter is shown to lower its error." in lead  # two draws are too few to say so of others
    assert [task.title for task in found.tasks] == ["digits/resnet", "digits/vit"]
    sentences = [plain(sentence) for sentence in found.tasks[0].sentences]
    assert any(sentence.startswith("Its worst class, class 3, loses") for sentence in sentences)
    assert any(sentence.startswith("The worst class of adaround W4A4 (class 3,") for sentence in sentences)
    assert any("adaround W4A4" in sentence and "rtn W4A4" in sentence for sentence in sentences)
    assert any("rtn W8A8 is not shown to harm one class more" in sentence for sentence in sentences)
    assert all(sentence.endswith(".") and "nan" not in sentence for sentence in sentences)


def test_nothing_is_claimed_of_a_network_that_is_not_beyond_chance(run: Run) -> None:
    found = evidence(run)
    methods = found.methods.assign(worst_drop_class_p_holm=0.5, worst_drop_domain_p_holm=0.5)
    methods = methods.assign(worst_drop_class_shown=False, worst_drop_domain_shown=False)
    verdict = judge(run, Evidence(found.analysis, methods))
    assert verdict.lead.startswith("No quantized network is shown to harm one class more than another.")
    text = plain(" ".join(sentence for task in verdict.tasks for sentence in task.sentences))
    assert "more than chance explains" not in text
    assert "Its worst" not in text


def test_adapters_are_ranked_and_those_without_effect_named(run: Run) -> None:
    found = evidence(run)
    methods, comparisons = found.methods, found.comparisons
    twin = methods[methods["adapter_label"] == "tent"].assign(adapter_label="zoa", adapter_order=2)
    worse = methods[methods["adapter_label"] == "tent"].assign(adapter_label="cotta", adapter_order=3)
    adapters = comparisons[comparisons["factor"] == "adapter"]
    no_effect = adapters.assign(a="zoa", difference=0.001, low=-0.01, high=0.012, p_holm=0.9)
    harmful = adapters.assign(a="cotta", difference=0.05, low=0.04, high=0.06, p_holm=0.001)
    more = Evidence(
        replace(found.analysis, comparisons=pd.concat([comparisons, no_effect, harmful])),
        pd.concat([methods, twin, worse], ignore_index=True),
    )
    text = plain(" ".join(judge(run, more).tasks[0].sentences))
    assert "tent lowers the mean error of rtn W4A4 by" in text
    assert "; cotta raises it by 5.0 points; zoa is not shown to change it." in text


def test_an_adapter_that_does_not_help_is_not_praised(run: Run) -> None:
    found = evidence(run)
    comparisons = found.comparisons.assign(p_holm=0.5)
    verdict = judge(run, Evidence(replace(found.analysis, comparisons=comparisons), found.methods))
    assert "No adapter is shown to lower its error." in verdict.lead
    assert not any(sentence.startswith("With tent") for task in verdict.tasks for sentence in task.sentences)


def test_streams_are_told_apart(tmp_path) -> None:
    run = small(tmp_path, streams=["one", "two", "three", "four", "five"], permutations=20)
    verdict = judge(run, evidence(run))
    assert verdict.tasks[0].title.startswith("a, stream ")
    sentences = [plain(sentence) for sentence in verdict.tasks[0].sentences]
    assert sum("n the stream" in sentence for sentence in sentences) == 1
    assert "4 further streams of this task: see the answers." in sentences
    assert verdict.lead.startswith("This run has too few permutations")
    assert any("raise analysis.permutations" in sentence for sentence in sentences)


def small(folder, **options) -> Run:
    settings = {"tasks": ["a"], "adapters": ["none", "tent"], "streams": ["usual"], "images": 30}
    settings |= {"domains": ["fog", "snow"], "permutations": 200, "bootstrap": 50}
    return store.load(make_run(folder, **(settings | options)))


def fail(run: Run, chosen: pd.Series) -> Run:
    run.trials.loc[chosen, "status"] = "failed"
    return run


def test_without_a_reference_no_cost_of_quantization_is_claimed(tmp_path) -> None:
    run = small(tmp_path)
    fail(run, run.trials["trial"].isin(run.trials["reference"]))
    verdict = judge(run, evidence(run))
    assert verdict.lead.startswith("There is no full-precision result to compare with")
    assert verdict.tasks[0].sentences[0].startswith("There is no full-precision result to compare with")


def test_where_no_class_loses_nothing_is_called_unreliable(run: Run) -> None:
    found = evidence(run)
    methods = found.methods.assign(worst_drop_class_value=-0.01)
    verdict = judge(run, Evidence(found.analysis, methods))
    assert verdict.lead == "No quantized network makes more errors than full precision in any class."


def test_without_adapters_adaptation_is_not_mentioned(run: Run) -> None:
    found = evidence(run)
    alone = Evidence(found.analysis, found.methods[found.methods["unadapted"]])
    verdict = judge(run, alone)
    assert verdict.lead.startswith("By its worst class")
    assert "dapt" not in verdict.lead


def test_without_a_quantized_network_there_is_nothing_to_judge(tmp_path) -> None:
    run = small(tmp_path, quantizers=[("full_precision", "FP32")])
    verdict = judge(run, evidence(run))
    assert verdict.lead.startswith("This run has no result of a quantized network")
    assert verdict.tasks[0].sentences == ("No quantized network has a result on this task.",)


def test_networks_that_ran_only_with_adaptation_are_named_with_it(tmp_path) -> None:
    run = small(tmp_path)
    fail(run, (run.trials["adapter"] == "none") & run.trials["weight_bits"].notna())
    verdict = judge(run, evidence(run))
    assert "rtn W4A4 with tent on a: class 3 loses" in verdict.lead
    assert "; on average it loses" in verdict.lead
    assert "not tested" in verdict.tasks[0].sentences[0]


def test_a_single_domain_is_not_called_the_worst(tmp_path) -> None:
    run = small(tmp_path, domains=["fog"])
    assert not any(
        "domain," in sentence or "one domain" in sentence for sentence in judge(run, evidence(run)).tasks[0].sentences
    )


def test_several_adapters_that_help_share_the_credit() -> None:
    """Which of them is best is not tested, so the lead names them all with the range of their gains."""
    rows = [type("Row", (), {"adapter_label": name, "worst_drop_class_value": 0.02})() for name in ("zoa", "tent")]
    gains = [Comparison(-0.05, -0.06, -0.04, 0.004, 15), Comparison(-0.03, -0.04, -0.02, 0.012, 15)]
    said = plain(_helpers(list(zip(rows, gains, strict=True))))
    assert said == (
        "zoa and tent lower its mean error by 3.0 to 5.0 points (each p ≤ 0.012); "
        "with zoa its worst class then loses 2.0 points"
    )


def test_of_many_calibration_sets_the_first_is_judged(study_run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    found = evidence(study_run)
    assert judge(study_run, found).note == ""
    assert with_room(found) is found
    monkeypatch.setattr("reports.frames.methods._MOST_NETWORKS", 10)
    kept = with_room(found)
    assert set(kept.methods["calibration_label"]) == {"none", "size 64"}
    whole = found.summary.set_index(KEYS).loc[kept.methods.set_index(KEYS).index]
    for column in ("worst_drop_class_p_holm", "worst_drop_domain_p_holm"):
        np.testing.assert_array_equal(kept.methods[column], whole[column])
    both = kept.comparisons.merge(found.comparisons, on=["task", "factor", "context", "a", "b"], suffixes=("", "_all"))
    assert len(both) == len(kept.comparisons) < len(found.comparisons)
    np.testing.assert_array_equal(both["p_holm"], both["p_holm_all"])
    assert not kept.comparisons["factor"].eq("calibration").any()
    verdict = judge(study_run, found)
    assert "the study's first one" in verdict.note
    assert not any("fog 3" in text for task in verdict.tasks for text in task.sentences)
