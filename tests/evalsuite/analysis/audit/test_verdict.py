"""A verdict says what the records say: differences, families, groups and ranks, recomputed from them."""

from __future__ import annotations

import json

import numpy as np
import pytest
from _dummies.runs import CalibrationSet, make_run

from evalsuite import store
from evalsuite.analysis import compare
from evalsuite.analysis.audit import Request, unmeasured, verdict_of
from evalsuite.analysis.audit.summary import MOST_WORDS
from evalsuite.analysis.verdict import FILE, Conformance, Verdict, read_verdict
from evalsuite.errors import RequestError
from evalsuite.registry import Setting
from evalsuite.statistics import LEVEL, holm

RTN = Setting("quantizers", "rtn", json.dumps({"range": "minmax"}))
ADAROUND = Setting("quantizers", "adaround", json.dumps({"range": "mse", "steps": 1000}))
METHODS = ("rtn", "adaround", "gptq")
QUANTIZERS = (("full_precision", "FP32"), *((name, bits) for name in METHODS for bits in ("W8A8", "W4A4")))
SETS = (
    CalibrationSet("size 64", [("calibration", {"size": 64})]),
    CalibrationSet("size 8", [("calibration", {"size": 8})], 0.5),
)
WRONG = Conformance(name="bits are honoured", outcome="fail", message="as without bits", spoils_numbers=True)


def made(folder, **options):
    options = {
        "tasks": ("digits/resnet",),
        "quantizers": QUANTIZERS,
        "adapters": ("none", "tent"),
        "calibrations": SETS,
        "images": 100,
        "seeds": (0, 1),
    } | options
    return store.load(make_run(folder, **options))


def asked(target=RTN, **known):
    return Request(target, "mine.py:Mine", "quick", **known)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return made(tmp_path_factory.mktemp("audit"))


@pytest.fixture(scope="module")
def verdict(run):
    return verdict_of(run, asked())


@pytest.fixture(scope="module")
def records(run):
    trials = run.trials[["trial", "quantizer_label", "adapter_label", "calibration_label", "stream_label", "bits"]]
    table = run.records.assign(wrong=lambda rows: rows["prediction"] != rows["label"])
    return table.astype({"trial": str}).merge(trials, on="trial")


def chosen(records, quantizer, calibration="size 64", adapter="none", stream=None):
    stream = stream or records["stream_label"].iloc[0]
    alike = records["quantizer_label"] == quantizer
    if not quantizer.startswith("full"):
        alike &= records["calibration_label"] == calibration
    return records[alike & (records["adapter_label"] == adapter) & (records["stream_label"] == stream)]


def claims(verdict, question):
    return [claim for claim in verdict.claims if claim.question == question]


def test_every_question_is_asked_of_every_rival_at_every_width(verdict):
    widths = {(claim.rival, claim.condition.bits) for claim in claims(verdict, "mean")}
    assert widths == {(rival, bits) for rival in ("adaround", "gptq") for bits in ("W8A8", "W4A4")}
    for question, conditions in (("worst class", 1), ("noise", 1), ("calibration", 1), ("adaptation", 1)):
        assert len(claims(verdict, question)) == conditions * len(widths), question
    # The second stream shows the same images in another order: of it only adaptation can make a difference.
    assert {claim.condition.adapter for claim in claims(verdict, "streams")} == {"tent"}


def test_the_mean_is_that_of_the_comparisons_but_for_its_family(run, verdict):
    table = compare(run).query("factor == 'quantizer' and adapter_label == 'none'")
    table = table[(table["stream_label"] == run.trials["stream_label"].iloc[0])]
    table = table[table["calibration_label"] == "size 64"].set_index(["a", "b"])
    found = claims(verdict, "mean")
    for claim in found:
        row = table.loc[(f"{claim.rival} {claim.condition.bits}", f"rtn {claim.condition.bits}")]
        assert (claim.estimate, claim.low, claim.high) == pytest.approx((-row["difference"], -row["high"], -row["low"]))
        assert claim.p == pytest.approx(row["p"])
        assert claim.n == row["n"]
    corrected = holm(np.array([claim.p for claim in found], float))
    assert [claim.p_holm for claim in found] == pytest.approx(corrected)
    for claim in found:
        told = claim.p_holm < LEVEL and not claim.low <= 0 <= claim.high
        assert claim.standing == (("worse" if claim.estimate > 0 else "better") if told else "not told apart")
        assert (claim.need is not None) == (claim.standing == "not told apart")


def test_from_the_rival_s_side_everything_is_the_other_way_round(run, verdict):
    other = verdict_of(run, asked(ADAROUND))
    for claim in verdict.claims:
        if claim.rival != "adaround" or claim.question in ("cost", "engine"):
            continue
        (back,) = [
            each
            for each in other.claims
            if (each.question, each.condition, each.rival) == (claim.question, claim.condition, "rtn")
        ]
        assert back.estimate == pytest.approx(-claim.estimate)
        assert (back.target_value, back.rival_value) == pytest.approx((claim.rival_value, claim.target_value))
        assert (back.target_group, back.rival_group) == (claim.rival_group, claim.target_group)


@pytest.mark.parametrize(("question", "column"), [("worst class", "label"), ("noise", "domain")])
def test_worst_groups_are_those_of_the_records(question, column, verdict, records):
    for claim in claims(verdict, question):
        bits = claim.condition.bits
        own, other = (
            chosen(records, f"{name} {bits}").groupby(column, observed=True)["wrong"].mean()
            for name in ("rtn", claim.rival)
        )
        assert (claim.target_value, claim.rival_value) == pytest.approx((own.max(), other.max()))
        assert claim.estimate == pytest.approx(own.max() - other.max())
        assert claim.target_group.endswith(str(own.idxmax()))


def test_calibration_is_what_another_set_changes(verdict, records):
    for claim in claims(verdict, "calibration"):
        bits = claim.condition.bits
        changes = []
        for name in (f"rtn {bits}", f"{claim.rival} {bits}"):
            small, usual = (chosen(records, name, size)["wrong"].mean() for size in ("size 8", "size 64"))
            changes.append(small - usual)
        assert (claim.target_value, claim.rival_value) == pytest.approx(changes)
        assert claim.estimate == pytest.approx(changes[0] - changes[1])
        assert claim.low <= claim.estimate <= claim.high


def test_what_breaks_is_named_first(verdict, records):
    first = verdict.drops[0]
    assert (first.kind, first.name, first.condition.bits, first.shown) == ("class", "class 3", "W4A4", True)
    full, own = chosen(records, "full precision"), chosen(records, "rtn W4A4")
    drop = own[own["label"] == 3]["wrong"].mean() - full[full["label"] == 3]["wrong"].mean()
    assert first.drop == pytest.approx(drop)
    assert first.low <= first.drop <= first.high
    assert first.p_holm < 0.05
    assert "class 3 at W4A4" in verdict.summary
    shown = [drop.shown for drop in verdict.drops]
    assert shown == sorted(shown, reverse=True)
    (small,) = [drop for drop in verdict.drops if drop.kind == "calibration" and drop.condition.bits == "W4A4"]
    change = chosen(records, "rtn W4A4", "size 8")["wrong"].mean() - own["wrong"].mean()
    assert (small.name, small.drop) == ("size 8", pytest.approx(change))


def test_ranks_allow_what_no_claim_forbids(verdict):
    for bits in ("W8A8", "W4A4"):
        ranks = [rank for rank in verdict.ranks if rank.condition.bits == bits]
        assert {rank.method for rank in ranks} == set(METHODS)
        assert sum(rank.mean_rank for rank in ranks) == pytest.approx(6)
        assert all(1 <= rank.best <= rank.worst <= 3 for rank in ranks)
        assert [rank.method for rank in ranks if rank.is_target] == ["rtn"]
    best = min((rank for rank in verdict.ranks if rank.condition.bits == "W4A4"), key=lambda rank: rank.mean_rank)
    worse = [claim for claim in claims(verdict, "mean") if claim.standing == "worse" and claim.condition.bits == "W4A4"]
    (own,) = [rank for rank in verdict.ranks if rank.is_target and rank.condition.bits == "W4A4"]
    assert best.best == 1
    assert own.best <= 1 + len(worse)


def test_a_copy_is_told_apart_from_nothing(tmp_path):
    run = made(tmp_path, quantizers=(("full_precision", "FP32"), ("rtn", "W4A4"), ("gptq", "W4A4")), seeds=(0,))
    rows = store.read_rows(run.folder)
    own = run.trials.set_index(["quantizer", "calibration_label", "adapter_label", "stream_label"])["trial"]
    for (quantizer, *labels), trial in own.items():
        if quantizer == "gptq":
            table = run.records_of(own.loc[("rtn", *labels)]).combine_chunks()
            columns = {name: table[name].combine_chunks() for name in table.column_names if name != "trial"}
            store.write_trial(run.folder, rows[trial], columns)
    verdict = verdict_of(store.load(run.folder), asked())
    tested = [claim for claim in verdict.claims if claim.question not in ("cost", "engine")]
    assert tested
    assert {claim.standing for claim in tested} == {"not told apart"}
    assert all(claim.estimate == 0 for claim in tested)
    assert {(rank.best, rank.worst) for rank in verdict.ranks} == {(1, 2)}


def test_no_verdict_where_a_check_would_spoil_the_numbers(run):
    request = asked(checks=(WRONG,), versions={}, hardware={})
    for verdict in (unmeasured(request), verdict_of(run, request)):
        assert not verdict.reached
        assert verdict.reasons == ["bits are honoured: as without bits"]
        assert verdict.claims == verdict.drops == verdict.ranks == []
        assert verdict.summary.startswith("No verdict on mine.py:Mine. bits are honoured")


def test_no_verdict_on_a_target_that_never_worked(tmp_path):
    run = made(tmp_path, seeds=(0,), calibrations=SETS[:1], adapters=("none",), streams=("usual",), images=20)
    rows = []
    for trial, row in store.read_rows(run.folder).items():
        lost = {"status": "failed", "reason": "RuntimeError: no luck"} if row["quantizer"] == "rtn" else {}
        rows.append(row | lost)
        assert trial == row["trial"]
    store.write_trials(run.folder, rows)
    verdict = verdict_of(store.load(run.folder), asked())
    assert not verdict.reached
    assert verdict.reasons == ["no trial of it gave a result: RuntimeError: no luck"]
    assert (verdict.trials.done, verdict.trials.failed) == (0, 2)


def test_a_verdict_is_read_as_it_was_written(verdict, tmp_path):
    assert verdict.write(tmp_path) == tmp_path / FILE
    assert read_verdict(tmp_path) == verdict
    assert len(verdict.summary.split()) <= MOST_WORDS
    assert Verdict.model_json_schema()["properties"]["claims"]["items"]["$ref"].endswith("Claim")


@pytest.mark.parametrize("text", ["", "{}", '{"schema_version": 2}', "\xff"])
def test_what_is_no_verdict_is_refused_by_name(text, tmp_path):
    (tmp_path / FILE).write_bytes(text.encode("latin-1"))
    with pytest.raises(RequestError, match=FILE):
        read_verdict(tmp_path)
