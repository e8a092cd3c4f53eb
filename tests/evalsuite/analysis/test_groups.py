"""Worst groups of a task's own columns and of products of columns."""

from __future__ import annotations

import numpy as np
import pyarrow.parquet as pq
import pytest
from _dummies.runs import make_run

from evalsuite import analysis, store
from evalsuite.analysis.harm import harm, holm_factors
from evalsuite.analysis.outcomes import pooled, read_outcomes
from evalsuite.analysis.reading import NO_VALUE
from evalsuite.analysis.summary import SUMMARY_COLUMNS, summary_columns
from evalsuite.statistics import holm

ASKED = ("class", "domain", "site", "class x site", "family", "severity x site", "class x domain")
SMALL = {"tasks": ("digits/vit",), "adapters": ("none", "tent"), "streams": ("usual",), "images": 120}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sites")
    options = {"sites": 3, "groups": ASKED, "domains": ("fog", "snow", "gaussian_noise"), "severities": (3, 5)}
    return store.load(make_run(folder, **SMALL, **options, permutations=300, bootstrap=30))


@pytest.fixture(scope="module")
def summary(run):
    return analysis.summarise(run)


@pytest.fixture(scope="module")
def rows(run):
    """Records and what the reference got wrong in the same row, joined by pandas."""
    records = run.records.astype({"domain": str, "trial": str, "family": str})
    records["wrong"] = (records["label"] != records["prediction"]).astype(float)
    joined = records.merge(run.trials, on="trial")
    keys = ["domain", "severity", "image"]
    reference = records.rename(columns={"trial": "reference", "wrong": "reference_wrong"})
    joined = joined.merge(reference[["reference", "reference_wrong", *keys]], on=["reference", *keys])
    joined["drop"] = joined["wrong"] - joined["reference_wrong"]
    joined["class"] = "class " + joined["label"].astype(str)
    for group in ASKED:
        names = [joined[column].astype(str) for column in group.split(" x ")]
        joined[group] = names[0] if len(names) == 1 else names[0] + " x " + names[1]
    return joined


def test_every_grouping_has_the_columns_of_a_class(summary):
    assert tuple(summary.columns) == summary_columns(ASKED)
    assert summary_columns(("class", "domain")) == SUMMARY_COLUMNS


@pytest.mark.parametrize("group", ASKED)
def test_worst_groups_agree_with_pandas(summary, rows, group):
    for _, row in summary.iterrows():
        labels = list(analysis.COMBINATION)
        own = rows[np.logical_and.reduce([rows[name] == row[name] for name in labels])]
        errors, drops = (own.groupby(group)[column].mean() for column in ("wrong", "drop"))
        assert row[f"worst_{group}_error"] == pytest.approx(errors.max())
        assert errors[row[f"worst_{group}"]] == pytest.approx(errors.max())
        assert row[f"worst_{group}_size"] == (own[group] == row[f"worst_{group}"]).sum()
        assert row[f"deviation_{group}"] == pytest.approx(errors.std(ddof=0))
        assert errors.mean() <= row[f"cvar25_{group}"] + 1e-12 <= row[f"cvar10_{group}"] + 2e-12
        if isinstance(row[f"worst_drop_{group}"], str):
            assert row[f"worst_drop_{group}_value"] == pytest.approx(drops.max())
            assert drops[row[f"worst_drop_{group}"]] == pytest.approx(drops.max())
            assert 0 < row[f"worst_drop_{group}_p"] <= row[f"worst_drop_{group}_p_holm"] <= 1


def test_the_class_harmed_at_one_site_is_the_worst_of_their_product(summary):
    harmed = summary[(summary["quantizer_label"] == "rtn W4A4") & (summary["adapter_label"] == "none")].iloc[0]
    assert harmed["worst_drop_class x site"] == "class 3 x site 2"
    assert harmed["worst_drop_class x site_value"] > harmed["worst_drop_class_value"] > harmed["worst_drop_site_value"]
    assert harmed["worst_drop_class x site_p_holm"] < 0.05


def test_without_asking_a_tasks_own_columns_are_looked_at(tmp_path):
    folder = make_run(tmp_path, **SMALL | {"images": 30}, sites=2, domains=("fog",), permutations=20, bootstrap=5)
    found = analysis.analyse(store.load(folder))
    assert found.groups == ("class", "domain", "site")
    assert found.summary["worst_site"].isin(["site 0", "site 1"]).all()


def test_a_column_that_one_task_has_is_empty_for_the_other(tmp_path):
    few = {"images": 30, "domains": ("fog",), "permutations": 20, "bootstrap": 5} | {
        name: SMALL[name] for name in ("adapters", "streams")
    }
    run = store.load(make_run(tmp_path, **few, tasks=("a", "b"), groups=("site",)))
    for trial in run.trials.loc[run.trials["task"] == "a", "trial"]:
        rewrite(run, trial, lambda image: np.where(image % 2, "left", "right").astype(object))
    summary = analysis.summarise(run).set_index("task")
    assert summary.loc["a", "worst_site"].isin(["left", "right"]).all()
    assert summary.loc["b", ["worst_site", "worst_site_error", "worst_drop_site_p"]].isna().all(axis=None)


@pytest.mark.parametrize(
    ("values", "names"),
    [
        (lambda image: image % 12, [str(k) for k in range(12)]),
        (lambda image: image % 2 == 0, ["False", "True"]),
        (lambda image: np.where(image % 3, image % 3 / 2, np.nan), ["0.5", "1.0", NO_VALUE]),
        (lambda image: np.array(["b", None, "a"], object)[image % 3], ["a", "b", NO_VALUE]),
    ],
)
def test_values_of_any_type_are_groups_in_their_order_and_empty_cells_one(tmp_path, values, names):
    run = store.load(make_run(tmp_path, **SMALL | {"images": 24, "adapters": ("none",)}, domains=("fog",)))
    for trial in run.trials["trial"]:
        rewrite(run, trial, values)
    outcomes = read_outcomes(run)
    (layout,) = {outcome.layout for outcome in outcomes.by_trial.values()}
    assert list(layout.columns["site"].names) == names
    assert outcomes.columns == {"digits/vit": ("site",)}


def rewrite(run, trial, values):
    """Give a trial's records the column ``site``, a function of the image."""
    table = pq.read_table(run.folder / "records" / f"{trial}.parquet")
    records = {name: table[name].combine_chunks() for name in table.column_names if name != "trial"}
    row = store.read_rows(run.folder)[trial]
    store.write_trial(run.folder, row, records | {"site": values(table["image"].to_numpy())})


def test_a_column_of_names_is_not_looked_at_unless_it_is_asked_for(tmp_path):
    run = store.load(make_run(tmp_path, **SMALL | {"images": 24, "adapters": ("none",)}, domains=("fog",)))
    for trial in run.trials["trial"]:
        rewrite(run, trial, lambda image: np.array([f"{k}.jpg" for k in image], object))
    assert analysis.analyse(run).groups == ("class", "domain")


def test_every_group_has_the_p_that_the_worst_has(run, summary):
    outcomes, settings = read_outcomes(run), analysis.Settings.of(run)
    found = [each for each in outcomes.combinations if each.adapter == "none" and not each.is_reference]
    pairs = [outcomes.paired_with_reference(each) for each in found]
    for rows, members in outcomes.batches(
        (each.task, [own for own, _ in both]) for each, both in zip(found, pairs, strict=True)
    ):
        gaps = [pooled(own for own, _ in pairs[k]) - pooled(ref for _, ref in pairs[k]) for k in members]
        for group in ("class", "class x site", "domain"):
            own = harm(rows, np.column_stack(gaps), group, settings)
            for column, member in enumerate(members):
                row = summary[(summary["quantizer_label"] == found[member].quantizer)]
                row = row[row["adapter_label"] == "none"].iloc[0]
                worst = own.drop[:, column].argmax()
                assert own.names[worst] == row[f"worst_drop_{group}"]
                assert own.p[worst, column] == row[f"worst_drop_{group}_p"] == own.p[:, column].min()
                beyond = own.drop[:, column] > own.edge(column, 3.0) + 1e-12
                np.testing.assert_array_equal(beyond, 3.0 * own.p[:, column] < 0.05)


def test_group_drops_repeat_the_summary_and_tell_its_corrected_p(run, summary):
    """The worst group's row is the summary's, and is shown exactly where Holm's p, made there otherwise, is small."""
    drops = analysis.analyse(run).estimates["group_drops"]
    assert set(drops["group"]) >= {"class", "class x site", "domain"}
    for keys, own in drops.groupby([*analysis.COMBINATION, "group"]):
        of_method = (summary[list(analysis.COMBINATION)] == list(keys[:-1])).all(axis=1)
        (_, row), group = next(summary[of_method].iterrows()), keys[-1]
        worst = own.loc[own["drop"].idxmax()]
        assert (worst["name"], worst["p"]) == (row[f"worst_drop_{group}"], row[f"worst_drop_{group}_p"])
        assert worst["drop"] == pytest.approx(row[f"worst_drop_{group}_value"], abs=1e-12)
        assert worst["shown"] == (row[f"worst_drop_{group}_p_holm"] < 0.05)
        assert worst["question"] == row["question"]
        if not own["high"].isna().any():
            np.testing.assert_array_equal(own["shown"], own["drop"] > own["high"] + 1e-12)


@pytest.mark.parametrize("seed", range(20))
def test_a_factor_tells_what_holm_tells(seed):
    generator = np.random.default_rng(seed)
    p = np.append(np.round(generator.uniform(0, 0.1, generator.integers(1, 9)) ** 1.5, 3), np.nan)
    np.testing.assert_array_equal(holm_factors(p) * p < 0.05, holm(p) < 0.05)


def test_another_stream_or_adapter_asks_another_question(tmp_path):
    """What is said of a network must not depend on how many orders of the images the study shows beside it."""
    few = {"tasks": ("a",), "images": 60, "domains": ("fog", "snow"), "permutations": 200, "bootstrap": 5}
    alone = store.load(make_run(tmp_path / "alone", **few, streams=("usual",), adapters=("none",)))
    beside = store.load(make_run(tmp_path / "beside", **few, streams=("usual", "b", "c"), adapters=("none", "tent")))
    labels = list(analysis.COMBINATION)
    first, second = (analysis.summarise(run).set_index(labels) for run in (alone, beside))
    columns = ["worst_drop_class_p_holm", "worst_drop_domain_p_holm", "family"]
    assert first.loc[first["bits"] != "FP32", "family"].unique().tolist() == [
        "networks without adaptation, calibration size 64, stream usual"
    ]
    assert first.loc[first["worst_drop_class_p"].notna(), "worst_drop_class_p_holm"].min() < 0.05
    assert first[columns].equals(second.loc[first.index, columns])
    first, second = (analysis.compare(run).set_index(["factor", "context", "a", "b"]) for run in (alone, beside))
    assert first[["p_holm", "family"]].equals(second.loc[first.index, ["p_holm", "family"]])
