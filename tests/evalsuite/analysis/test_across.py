from __future__ import annotations

import numpy as np
import pytest
from _dummies.runs import make_run

from evalsuite import analysis, store
from evalsuite.errors import RequestError
from evalsuite.files import write_json

SMALL = {"tasks": ("digits/vit",), "streams": ("usual",), "adapters": ("none", "tent")}


def test_a_run_equals_itself(tmp_path):
    runs = [store.load(make_run(tmp_path / name, **SMALL)) for name in ("a", "b")]
    found = analysis.compare_runs(runs)
    assert tuple(found.columns) == analysis.across.ACROSS_COLUMNS
    assert len(found) == 8
    assert (found["difference"] == 0).all()
    assert found["note"].str.contains("0 of 15 pairs differ").all()
    assert set(found["a"]) == {"b"}
    np.testing.assert_allclose(found["error_a"], found["error_b"])


def test_a_version_that_is_better_is_found(tmp_path):
    old = store.load(
        make_run(tmp_path / "old", **SMALL, images=120, quantizers=(("full_precision", "FP32"), ("rtn", "W4A4")))
    )
    new = store.load(
        make_run(tmp_path / "new", **SMALL, images=120, quantizers=(("full_precision", "FP32"), ("rtn", "W4A4")))
    )
    row = new.trials[(new.trials["quantizer"] == "rtn") & (new.trials["adapter"] == "none")].iloc[0].to_dict()
    records = {name: values.to_numpy() for name, values in new.records_of(row["trial"]).to_pandas().items()}
    del records["trial"]
    mended = np.where(records["image"] % 3 == 0, records["label"], records["prediction"])
    store.write_trial(new.folder, {"trial": row["trial"]}, records | {"prediction": mended.astype(np.int32)})
    found = analysis.compare_runs([old, new]).set_index(["quantizer_label", "adapter_label"])
    better = found.loc[("rtn W4A4", "none")]
    assert better["difference"] < 0
    assert better["high"] < 0
    assert better["p_holm"] < 0.01
    assert better["error_a"] - better["error_b"] == pytest.approx(better["difference"])
    assert found.loc[("rtn W4A4", "tent"), "difference"] == 0


def test_errors_are_of_the_seeds_that_the_difference_is_of(tmp_path):
    first = store.load(make_run(tmp_path / "first", **SMALL, seeds=(0, 1)))
    later = store.load(make_run(tmp_path / "later", **SMALL, seeds=(1, 2, 3), seed=9))
    found = analysis.compare_runs([first, later])
    np.testing.assert_allclose(found["error_a"] - found["error_b"], found["difference"], atol=1e-12)
    seeds = found[["seeds_a", "seeds_b", "seeds"]].drop_duplicates()
    assert seeds.to_numpy().tolist() == [[3, 2, 1]]


def test_other_images_are_refused(tmp_path):
    first = store.load(make_run(tmp_path / "a", **SMALL))
    fewer = store.load(make_run(tmp_path / "b", **SMALL, images=30))
    with pytest.raises(RequestError, match="showed other images; expected the same stream"):
        analysis.compare_runs([first, fewer])
    tasks = {"digits/vit": first.study["tasks"]["digits/vit"] | {"data_digest": "other"}}
    write_json(fewer.folder / "study.json", fewer.study | {"tasks": tasks})
    with pytest.raises(RequestError, match="the images of digits/vit differ"):
        analysis.compare_runs([first, store.load(fewer.folder)])


def test_runs_without_anything_in_common_are_refused(tmp_path):
    first = store.load(make_run(tmp_path / "a", **SMALL))
    other = store.load(make_run(tmp_path / "b", **SMALL | {"tasks": ("digits/resnet",)}))
    with pytest.raises(RequestError, match="no combination of task"):
        analysis.compare_runs([first, other])
    with pytest.raises(RequestError, match="1 run to compare"):
        analysis.compare_runs([first])


def test_a_result_that_several_orders_share_is_counted_once(tmp_path):
    """Predictions without adaptation are the same in whatever order the images come: one result, one test."""
    shown = {"tasks": ("a",), "adapters": ("none",), "images": 400}
    one, two = (
        [predicting(store.load(make_run(tmp_path / f"{len(streams)}{k}", **shown, streams=streams)), k) for k in (1, 2)]
        for streams in (("usual",), ("usual", "reversed"))
    )
    first, second = (analysis.compare_runs(runs) for runs in (one, two))
    assert len(second) == 2 * len(first)
    assert 1 > first["p_holm"].min() > first["p"].min()
    for stream in ("usual", "reversed"):
        own = second[second["stream_label"] == stream]
        np.testing.assert_array_equal(own["p_holm"], first["p_holm"])
    assert set(second["family"]) == {"results of 22"}


def predicting(run, version):
    """Write a run's trials again, predictions being a function of quantizer, domain and image alone."""
    stored = store.read_rows(run.folder)
    for row in run.trials.to_dict("records"):
        frame = run.records_of(row["trial"]).to_pandas().drop(columns="trial")
        salt = sum(map(ord, row["quantizer_label"])) + version * 7
        salt = salt + np.array([sum(map(ord, domain)) for domain in frame["domain"]])
        wrong = (frame["image"].to_numpy() * 31 + salt * 17) % (10 + version) == 0
        prediction = np.where(wrong, frame["label"] + 1, frame["label"]).astype(np.int32)
        columns = {name: values.to_numpy() for name, values in frame.assign(prediction=prediction).items()}
        store.write_trial(run.folder, stored[row["trial"]], columns)
    return store.load(run.folder)


def test_what_only_one_run_has_is_told_with_the_reason(tmp_path):
    one = store.load(make_run(tmp_path / "one", **SMALL))
    two = store.load(make_run(tmp_path / "two", **SMALL | {"adapters": ("none", "zoa")}, broken=True))
    left = analysis.across.unpaired([one, two])
    ended = two.trials[two.trials["status"] != "done"]
    reasons = dict(zip(left["run"] + left["quantizer_label"] + left["adapter_label"], left["reason"], strict=True))
    assert len(left) == len(reasons)
    assert set(left.loc[left["adapter_label"] == "tent", "run"]) == {"one"}
    assert reasons["onertn W4A4tent"] == "two: it is not asked there"
    for row in ended.to_dict("records"):
        if row["adapter"] == "none":
            assert reasons[f"one{row['quantizer_label']}none"] == f"two: {row['status']}: {row['reason']}"
    paired = len(one.trials) - (left["run"] == "one").sum()
    assert len(analysis.compare_runs([one, two])) == paired > 0


def test_the_worst_class_is_told_apart_as_the_mean_is(tmp_path):
    first, second = (predicting(store.load(make_run(tmp_path / f"{k}", **SMALL, images=200)), k) for k in (1, 2))
    found = analysis.compare_runs([first, second])
    assert (found["worst_class_low"] <= found["worst_class_difference"]).all()
    assert (found["worst_class_p_holm"] >= found["worst_class_p"]).all()
    claimed = (found["worst_class_p_holm"] < 0.05) & (found["worst_class_low"] * found["worst_class_high"] > 0)
    np.testing.assert_array_equal(found["worst_class_shown"], claimed)
