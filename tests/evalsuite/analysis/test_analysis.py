from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
from _dummies.runs import HARMED_CLASS, USUAL_ORDER, CalibrationSet, make_run
from scipy import stats

from evalsuite import analysis, store
from evalsuite.errors import RequestError
from evalsuite.files import write_json
from evalsuite.metrics import ece
from evalsuite.statistics import holm

LABELS = list(analysis.COMBINATION)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    return store.load(make_run(folder, images=80, seeds=(0, 1), broken=True, streams=("usual",), permutations=500))


@pytest.fixture(scope="module")
def summary(run):
    return analysis.summarise(run)


@pytest.fixture(scope="module")
def comparisons(run):
    return analysis.compare(run)


@pytest.fixture(scope="module")
def rows(run):
    """Records with their trial's settings and what the reference got wrong in the same row, joined by pandas."""
    columns = ["domain", "severity", "image"]
    records = run.records.astype({"domain": str, "trial": str})
    records["wrong"] = (records["label"] != records["prediction"]).astype(float)
    joined = records.merge(run.trials, on="trial")
    reference = records.rename(columns={"trial": "reference", "wrong": "reference_wrong"})
    joined = joined.merge(reference[["reference", "reference_wrong", *columns]], on=["reference", *columns])
    joined["drop"] = joined["wrong"] - joined["reference_wrong"]
    joined["class"] = "class " + joined["label"].astype(str)
    return joined


def of(rows, row):
    return rows[np.logical_and.reduce([rows[name] == row[name] for name in LABELS])]


def test_columns_are_the_documented_ones(summary, comparisons):
    assert tuple(summary.columns) == analysis.SUMMARY_COLUMNS
    assert tuple(comparisons.columns) == analysis.COMPARISON_COLUMNS
    assert len(analysis.SUMMARY_COLUMNS) == 5 + 17 + 2 * 16 + 11


def test_summary_agrees_with_pandas(summary, rows):
    for _, row in summary.iterrows():
        own = of(rows, row)
        assert row["error"] == pytest.approx(own["wrong"].mean())
        assert row["drop"] == pytest.approx(own["drop"].mean())
        assert row["ece"] == pytest.approx(ece(own["confidence"], own["wrong"] == 0))
        assert (row["seeds"], row["images"]) == (own["seed"].nunique(), 80 * 15)
        for group in ("class", "domain"):
            errors = own.groupby(group)["wrong"].mean()
            assert row[f"worst_{group}_error"] == pytest.approx(errors.max())
            assert errors[row[f"worst_{group}"]] == pytest.approx(errors.max())
            assert row[f"worst_{group}_size"] == (own[group] == row[f"worst_{group}"]).sum()
            assert row[f"deviation_{group}"] == pytest.approx(errors.std(ddof=0))
            assert errors.mean() <= row[f"cvar25_{group}"] <= row[f"cvar10_{group}"] <= errors.max() + 1e-12


def test_worst_drop_agrees_with_pandas(summary, rows):
    for _, row in summary[summary["worst_drop_class_p"].notna()].iterrows():
        for group in ("class", "domain"):
            drops = of(rows, row).groupby(group)["drop"].mean()
            assert row[f"worst_drop_{group}_value"] == pytest.approx(drops.max())
            assert drops[row[f"worst_drop_{group}"]] == pytest.approx(drops.max())


def test_only_combinations_with_a_trial_done_have_a_row(run, summary):
    done = run.trials[run.trials["status"] == "done"]
    assert summary[LABELS].to_records(index=False).tolist() == (
        done[LABELS].drop_duplicates().to_records(index=False).tolist()
    )


def test_the_reference_loses_nothing_and_is_not_tested(summary):
    reference = summary[(summary["bits"] == "FP32") & (summary["adapter_label"] == "none")]
    assert len(reference) == 2
    exact = ["drop", "drop_low", "drop_high", "worst_drop_class_value", "worst_drop_domain_low"]
    assert (reference[exact] == 0).all(axis=None)
    missing = ["worst_drop_class", "worst_drop_class_null", "worst_drop_domain_p", "worst_drop_domain_p_holm"]
    assert reference[missing].isna().all(axis=None)


def test_intervals_contain_their_estimate(summary):
    for name in ("error", "drop"):
        assert (summary[f"{name}_low"] <= summary[name]).all()
        assert (summary[name] <= summary[f"{name}_high"]).all()
    quantized = summary[summary["bits"] == "W4A4"]
    assert (quantized["worst_drop_class_low"] < quantized["worst_drop_class_high"]).all()


def test_finds_the_class_that_quantization_harms_most(summary):
    harmed = summary[(summary["bits"] == "W4A4") & (summary["adapter_label"] == "none")]
    assert (harmed["worst_drop_class"] == f"class {HARMED_CLASS}").all()
    assert (harmed["worst_drop_class_p"] < 0.01).all()
    assert (harmed["worst_drop_class_value"] > harmed["worst_drop_class_null"]).all()


def test_holm_is_over_what_answers_one_question(summary, comparisons):
    for _, rows in summary.groupby(["task", "calibration_label", "adapter_label"]):
        unadapted = rows[rows["adapter_label"] == "none"]
        for group in ("class", "domain"):
            expected = holm(unadapted[f"worst_drop_{group}_p"])
            np.testing.assert_allclose(unadapted[f"worst_drop_{group}_p_holm"], expected)
    for _, rows in summary[summary["adapter_label"] != "none"].groupby(["task", "quantizer_label"]):
        np.testing.assert_allclose(rows["worst_drop_class_p_holm"], holm(rows["worst_drop_class_p"]))
        assert rows["family"].nunique() == 1
    bits = comparisons[["a", "b"]].apply(lambda labels: labels.str.rpartition(" ")[2])
    full = comparisons["b"] == "full precision"
    kind = pd.Series(np.where(full, "full", np.where(bits["a"] == bits["b"], bits["a"], "across")), comparisons.index)
    kind = kind.where(comparisons["factor"] == "quantizer", comparisons["factor"])
    for _, rows in comparisons.groupby(["task", "context", kind]):
        assert rows["family"].nunique() == 1
        np.testing.assert_allclose(rows["p_holm"], holm(rows["p"]))
        np.testing.assert_allclose(rows["worst_class_p_holm"], holm(rows["worst_class_p"]))
    for _, rows in comparisons.groupby(["task", "factor", "context"]):
        np.testing.assert_allclose(rows["p_holm_context"], holm(rows["p"]))


def test_what_is_alike_stands_in_columns_and_what_varies_is_empty(comparisons, run):
    for frame in (comparisons, analysis.rank(run)):
        for row in frame.to_dict("records"):
            common = [name for name in LABELS[1:] if not pd.isna(row[name])]
            assert common == [name for name in LABELS[1:] if not name.startswith(row["factor"].partition(" ")[0])]
            assert set(row["context"].split(", ")) == {f"{name.removesuffix('_label')} {row[name]}" for name in common}
    for row in comparisons.to_dict("records"):
        labels = {"a": row["a"], "b": row["b"]} if row["factor"] == "quantizer" else {"both": row["quantizer_label"]}
        bits = {label.rpartition(" ")[2] for label in labels.values()} - {"precision"}
        if len(bits) == 1 and "full precision" not in labels.values():
            assert row["bits"] == bits.pop()
        elif "both" not in labels:
            assert pd.isna(row["bits"])


def test_what_is_shown_is_what_the_test_and_the_interval_say(comparisons, summary, run):
    apart = comparisons["low"] * comparisons["high"] > 0
    assert (comparisons["shown"] == (comparisons["p_holm"] < comparisons["level"]) & apart).all()
    assert set(comparisons["level"]) == {0.05}
    for group in ("class", "domain"):
        assert (summary[f"worst_drop_{group}_shown"] == (summary[f"worst_drop_{group}_p_holm"] < 0.05)).all()
    ranked = analysis.rank(run)
    assert (ranked["shown"] == (ranked["p"] < 0.05)).all()


def test_a_row_does_not_depend_on_the_rest_of_the_run(run, summary, tmp_path):
    kept = run.trials[
        run.trials["quantizer"].isin(["full_precision", "adaround"]) & (run.trials["task"] == "digits/vit")
    ]
    (tmp_path / "records").symlink_to(run.folder / "records")
    (tmp_path / "study.json").symlink_to(run.folder / "study.json")
    store.write_trials(tmp_path, kept.to_dict("records"))
    part = analysis.summarise(store.load(tmp_path)).set_index(LABELS)
    whole = summary.set_index(LABELS).loc[part.index]
    corrected = [column for column in part if column.endswith("_p_holm")]
    pd.testing.assert_frame_equal(part.drop(columns=corrected), whole.drop(columns=corrected), rtol=1e-12)


def test_comparisons_are_between_what_differs_in_one_thing(comparisons, summary):
    quantizers = comparisons[comparisons["factor"] == "quantizer"]
    named = quantizers.groupby(["task", "context"])[["a", "b"]].apply(lambda rows: set(map(tuple, rows.to_numpy())))
    context = "calibration size 64, adapter none, stream usual"
    assert named["digits/resnet", context] == {
        ("rtn W8A8", "full precision"),
        ("rtn W4A4", "full precision"),
        ("adaround W4A4", "full precision"),
        ("rtn W4A4", "rtn W8A8"),
        ("adaround W4A4", "rtn W8A8"),
        ("adaround W4A4", "rtn W4A4"),
    }
    adapters = comparisons[comparisons["factor"] == "adapter"]
    assert set(adapters["b"]) == {"none"}
    assert len(adapters) == len(summary[summary["adapter_label"] != "none"])
    assert "quantizer full precision, calibration none, stream usual" in set(adapters["context"])


def test_comparison_agrees_with_scipy(comparisons, rows):
    chosen = comparisons["context"] == "calibration size 64, adapter none, stream usual"
    chosen &= (comparisons["a"] == "adaround W4A4") & (comparisons["b"] == "full precision")
    row = comparisons[chosen & (comparisons["task"] == "digits/resnet")].iloc[0]
    own = rows[(rows["task"] == "digits/resnet") & (rows["adapter"] == "none")]
    errors = own.groupby(["quantizer_label", "domain"])["wrong"].mean().unstack(0)
    gaps = (errors["adaround W4A4"] - errors["full precision"]).round(12)
    assert row["n"] == (gaps != 0).sum()
    assert row["statistic"] == stats.wilcoxon(gaps).statistic
    assert row["difference"] == pytest.approx(gaps.mean())
    assert row["low"] < row["difference"] < row["high"]
    assert stats.wilcoxon(gaps).pvalue < row["p"] < 0.05  # the larger of two: here that over images and two draws
    assert (row["test"], row["unit"], row["effect"]) == ("wilcoxon", "domain", 1.0)
    assert row["note"] == ""


def test_worst_classes_are_those_of_the_summary(comparisons, summary):
    worst = summary.set_index(LABELS)["worst_class_error"]
    own = comparisons[
        (comparisons["factor"] == "adapter") & comparisons["context"].str.startswith("quantizer rtn W4A4")
    ]
    assert len(own)
    for _, row in own.iterrows():
        a, b = (worst[row["task"], "size 64", "rtn W4A4", row[side], "usual"] for side in ("a", "b"))
        assert row["worst_class_difference"] == pytest.approx(a - b)
        assert row["worst_class_low"] <= row["worst_class_high"]
        assert 0 < row["worst_class_p"] <= 1


def test_images_shown_once_are_compared_by_mcnemar(tmp_path):
    run = store.load(make_run(tmp_path, tasks=("digits/vit",), streams=("usual",), domains=USUAL_ORDER[:1], images=90))
    found = analysis.compare(run)
    assert set(found["test"]) == {"mcnemar"}
    assert set(found["unit"]) == {"image"}
    row = found[(found["a"] == "rtn W4A4") & (found["b"] == "full precision")].iloc[0]
    wrong = {label: rows for label, rows in _wrong(run).items() if label[1] == "none"}
    a, b = wrong["rtn W4A4", "none"], wrong["full precision", "none"]
    only = int((a & ~b).sum()), int((b & ~a).sum())
    assert (row["n"], row["p"]) == (sum(only), pytest.approx(stats.binomtest(only[0], sum(only)).pvalue))
    assert (found["low"] <= found["high"]).all()
    assert (analysis.summarise(run)["worst_drop_domain_p"].dropna() == 1).all()


def _wrong(run):
    records = run.records.astype({"trial": str}).sort_values("image")
    rows = {trial: (own["label"] != own["prediction"]).to_numpy() for trial, own in records.groupby("trial")}
    labels = run.trials[["quantizer_label", "adapter_label", "trial"]].itertuples(index=False)
    return {(quantizer, adapter): rows[trial] for quantizer, adapter, trial in labels}


def test_one_domain_of_several_seeds_gives_an_interval_but_no_test(tmp_path):
    folder = make_run(tmp_path, tasks=("digits/vit",), streams=("usual",), domains=USUAL_ORDER[:1], seeds=(0, 1))
    found = analysis.compare(store.load(folder))
    assert found["p"].isna().all()
    assert found["p_holm"].isna().all()
    assert found["note"].str.contains("of 1 pairs differ").all()
    assert (found["low"] <= found["high"]).all()


def test_adapters_are_compared_with_each_other_too(comparisons):
    pairs = comparisons[comparisons["factor"] == "adapter pair"]
    context = "quantizer rtn W4A4, calibration size 64, stream usual"
    own = pairs[(pairs["task"] == "digits/resnet") & (pairs["context"] == context)]
    assert set(zip(own["a"], own["b"], strict=True)) == {("tent", "bn adapt"), ("zoa", "bn adapt"), ("zoa", "tent")}


def test_intervals_of_several_draws_resample_them_too(summary):
    several = summary["seeds"] == 2
    assert set(summary.loc[several, "unit"]) == {"image x 2 calibration draws"}
    assert set(summary.loc[~several, "unit"]) <= {"image"}


def test_no_interval_holds_what_its_number_cannot_be(tmp_path):
    """With two calibration draws and a handful of images intervals are widened beyond all bounds."""
    few = {"tasks": ("a",), "domains": ("clean", "fog", "snow"), "images": 6, "classes": 3, "seeds": (0, 1)}
    sets = [CalibrationSet(f"size {size}", [("calibration", {"size": size})]) for size in (64, 16)]
    run = store.load(make_run(tmp_path / "run", streams=("usual",), calibrations=sets, permutations=50, **few))
    tables = analysis.analyse(run)
    # Of what is a difference of two drops, or of two errors; all else is an error.
    twice, once = re.compile("excess|^(worst_)?(low|high)$"), re.compile("drop|difference|change|clean|shifted")
    seen = 0
    for name, table in {"summary": tables.summary, "comparisons": tables.comparisons, **tables.estimates}.items():
        for column in table.columns[table.columns.str.contains(r"(?:^|_)(?:low|high)$")]:
            values = table[column].dropna().astype(float)
            most = 2 if twice.search(column) and name != "comparisons" else 1
            least = -most if most == 2 or once.search(column) or name == "comparisons" else 0
            assert values.between(least, most).all(), (name, column, values.min(), values.max())
            seen += len(values)
    assert seen > 500
    assert (tables.summary["worst_drop_class_high"] == 1).any()


def test_new_measures_agree_with_pandas(summary, rows, run):
    records = run.records.astype({"trial": str, "domain": str})
    reference = records.rename(columns={"trial": "reference", "prediction": "reference_prediction"})
    keys = ["reference", "domain", "image"]
    joined = records.merge(run.trials, on="trial").merge(reference[[*keys, "reference_prediction"]], on=keys)
    for _, row in summary[summary["drop"].notna() & summary["mce"].notna()].iterrows():
        own = of(rows, row)
        both = own.groupby("domain")[["wrong", "reference_wrong"]].sum()
        assert row["mce"] == pytest.approx((both["wrong"] / both["reference_wrong"]).mean())
        flips = of(joined, row)
        assert row["flip_rate"] == pytest.approx((flips["prediction"] != flips["reference_prediction"]).mean())
        scores = own.groupby(["seed", "domain"])["wrong"].mean()
        assert row["iqm"] == pytest.approx(stats.trim_mean(scores, 0.25))
        assert row["nll"] == pytest.approx(own["loss"].mean(), rel=1e-5)
        assert row["brier"] == pytest.approx(own["brier"].mean(), rel=1e-5)
        if row["seeds"] > 1:
            table = own.groupby(["seed", "class"])["drop"].mean().unstack()
            expected = stats.friedmanchisquare(*table.T.to_numpy()) if len(table) > 2 else None
            assert 0 <= row["stability_class"] <= 1
            assert expected is None or row["stability_class_p"] == pytest.approx(expected.pvalue)


def test_rankings_order_methods_by_their_mean_rank(run, summary):
    found = analysis.rank(run)
    assert tuple(found.columns) == analysis.RANKING_COLUMNS
    for (task, factor, context), own in found.groupby(["task", "factor", "context"]):
        assert own["mean_rank"].sum() == pytest.approx(len(own) * (len(own) + 1) / 2)
        assert own["n"].iloc[0] == 15
        best = own["mean_rank"].min()
        near = own["mean_rank"] - best <= own["critical_difference"]
        if not own["note"].iloc[0]:
            assert own.loc[near, "among_best"].all(), (task, factor, context)
            assert own["among_best"].all() or own["shown"].all()
            assert (own["best_rank"].eq(1) | ~own["among_best"].astype(bool)).any()
    assert set(found["factor"]) == {"quantizer", "adapter"}


def test_damaged_analysis_settings_are_named(run, tmp_path):
    (tmp_path / "records").symlink_to(run.folder / "records")
    (tmp_path / "trials.parquet").symlink_to(run.folder / "trials.parquet")
    write_json(tmp_path / "study.json", run.study | {"analysis": {}})
    with pytest.raises(RequestError, match=r"analysis = \{\}: expected whole numbers seed"):
        analysis.analyse(store.load(tmp_path))


def test_pairs_that_cannot_be_compared_say_why(tmp_path):
    folder = make_run(tmp_path, tasks=("digits/vit",), streams=("usual",), adapters=("none",), seeds=(0, 1))
    trials = store.load(folder).trials
    rows = trials.to_dict("records")
    for row in rows:
        if row["quantizer"] == "adaround" or (row["bits"] == "W8A8") != (row["seed"] == 0):
            row["status"] = "failed"
    rows[0]["status"] = rows[1]["status"] = "failed"
    store.write_trials(folder, rows)
    found = analysis.compare(store.load(folder))
    assert found["note"].tolist() == ["no seed is done for both"]
    assert found["n"].tolist() == [0]
    assert found[["p", "p_holm", "difference", "low"]].isna().all(axis=None)


def test_pairs_that_saw_different_images_are_not_compared(tmp_path):
    folder = make_run(tmp_path, tasks=("digits/vit",), streams=("usual",), adapters=("none",))
    other = store.load(make_run(tmp_path / "other", tasks=("digits/vit",), streams=("usual",), images=30))
    rows = store.load(folder).trials.to_dict("records")
    stranger = next(
        r for r in other.trials.to_dict("records") if (r["quantizer"], r["adapter"]) == ("adaround", "none")
    )
    foreign = other.folder / "records" / f"{stranger['trial']}.parquet"
    foreign.rename(folder / "records" / foreign.name)
    rows[-1]["trial"] = stranger["trial"]
    store.write_trials(folder, rows)
    notes = analysis.compare(store.load(folder)).set_index(["a", "b"])["note"]
    assert notes["adaround W4A4", "rtn W4A4"] == "the two did not see the same images"
    assert notes["rtn W4A4", "rtn W8A8"] == ""


def test_a_drop_needs_the_reference(tmp_path):
    folder = make_run(tmp_path, tasks=("digits/vit",), streams=("usual",))
    rows = store.load(folder).trials.to_dict("records")
    rows[0]["status"] = "failed"
    store.write_trials(folder, rows)
    found = analysis.summarise(store.load(folder))
    assert len(found) == 15
    assert found["error"].notna().all()
    assert found[["drop", "worst_drop_class", "worst_drop_domain_p"]].isna().all(axis=None)


def test_a_run_without_results_gives_empty_tables(tmp_path):
    folder = make_run(tmp_path, tasks=("digits/vit",))
    rows = [row | {"status": "failed"} for row in store.load(folder).trials.to_dict("records")]
    store.write_trials(folder, rows)
    run = store.load(folder)
    assert tuple(analysis.summarise(run).columns) == analysis.SUMMARY_COLUMNS
    assert len(analysis.summarise(run)) == len(analysis.compare(run)) == 0


def test_write_gives_the_same_files_each_time(run, summary, tmp_path):
    for name in ("first", "second"):
        analysis.analyse(store.load(run.folder)).write(tmp_path / name)
    for file in ("summary.csv", "comparisons.csv", "rankings.csv"):
        assert (tmp_path / "first" / file).read_bytes() == (tmp_path / "second" / file).read_bytes()
    read = pd.read_csv(tmp_path / "first" / "summary.csv")
    pd.testing.assert_frame_equal(read, summary, check_dtype=False, check_exact=False, rtol=1e-12)
