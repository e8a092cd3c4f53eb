from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow.parquet as pq
import pytest
from _dummies import plugins
from _dummies.runs import make_run

from evalsuite import store
from evalsuite.analysis import compare
from evalsuite.errors import RequestError
from evalsuite.registry import configure
from evalsuite.statistics import holm
from evalsuite.study.audit import AFFORDABLE, audit_study
from reports.words.audit import GIVEN, findings


@dataclass(frozen=True)
class Ticking(plugins.Scaled):
    """Iterates, at no rate of its own."""

    iterations: int = 20_000


def made(folder, **options):
    options = {"tasks": ("digits/resnet",), "adapters": ("none",), "streams": ("usual",), "images": 80} | options
    return store.load(make_run(folder, **options))


def rewrite(run, change):
    """Write a run's trials again as ``change(row, records)`` leaves them; records of None are no result."""
    rows = []
    stored = store.read_rows(run.folder)
    for trial in run.trials["trial"]:
        row = stored[trial]
        file = run.folder / "records" / f"{trial}.parquet"
        table = pq.read_table(file)
        records = {name: table[name].combine_chunks() for name in table.column_names if name != "trial"}
        records = change(row, records)
        if records is None:
            row |= {"status": "failed", "reason": "RuntimeError: no luck"}
        store.write_trial(run.folder, row, records)
        rows.append(row)
    store.write_trials(run.folder, rows)
    return store.load(run.folder)


def test_the_target_keeps_its_defaults_and_compared_methods_are_affordable():
    study = audit_study("adaround", "digits/resnet", ["evalsuite.quantizers.adaround:AdaRound", "rtn"])
    target, other, plain = study.quantizers[1], study.quantizers[3], study.quantizers[5]
    assert target.method == configure("quantizers", "adaround")
    assert {key: other.method.values()[key] for key in AFFORDABLE} == {"iterations": 500, "learning_rate": 0.01}
    assert plain.method == configure("quantizers", "rtn")
    assert [str(each.bits) for each in study.quantizers[1:]] == ["W8A8", "W4A4"] * 3
    assert study.description.endswith("Compared methods that iterate get 500 iterations at a learning rate of 0.01.")


def test_options_are_given_to_those_that_have_them():
    study = audit_study("rtn", plugins.TASK, [f"{__name__}:Ticking", plugins.SCALED])
    assert study.quantizers[3].method.values() == {"levels": 4, "iterations": 500}
    assert study.quantizers[5].method.values() == {"levels": 4}
    assert "iterate" not in audit_study("adaround", plugins.TASK, ["rtn"]).description


@pytest.mark.parametrize(
    ("target", "verdict"), [("adaround", "adaround W4A4 is better than"), ("rtn", "rtn W4A4 is worse than")]
)
def test_a_difference_is_told_from_either_side_with_its_interval(tmp_path, target, verdict):
    run = made(tmp_path, images=300)
    row = compare(run).set_index(["a", "b"]).loc[("adaround W4A4", "rtn W4A4")]
    assert row["p_holm"] < 0.05
    assert row["high"] < 0
    low, high = (
        (100 * row["low"], 100 * row["high"]) if target == "adaround" else (-100 * row["high"], -100 * row["low"])
    )
    said = findings(run, target)
    (contest,) = [sentence for sentence in said if sentence.startswith(verdict)]
    assert f"(95 % interval {low:+.1f} to {high:+.1f}; p = " in contest
    assert said.count(GIVEN) == 1


def test_several_calibration_draws_are_resampled_too(tmp_path):
    said = findings(made(tmp_path, images=60, seeds=(0, 1, 2)), "rtn")
    assert said[-1] == "Intervals are over image x 3 calibration draws, both resampled."


def test_one_image_wrong_in_every_domain_is_no_difference(tmp_path):
    run = made(tmp_path, quantizers=(("full_precision", "FP32"), ("rtn", "W4A4"), ("adaround", "W4A4")), images=40)

    def alike(row, records):
        wrong = (records["image"].to_numpy() == 7) & (row["quantizer"] == "adaround")
        return records | {"prediction": np.where(wrong, 0, records["label"].to_numpy()).astype(np.int32)}

    run = rewrite(run, alike)
    row = compare(run).set_index(["a", "b"]).loc[("adaround W4A4", "rtn W4A4")]
    assert np.isnan(row["p"])  # fifteen domains show it, and it is one image
    assert row["low"] < 0 < row["high"]
    contest = findings(run, "adaround")[-1]
    assert contest.startswith("adaround W4A4 against rtn W4A4: +2.5 points of mean error; no test (the two differ on")


def test_harm_is_told_only_where_there_is_evidence(tmp_path):
    run = made(tmp_path, images=200, permutations=999)
    said = findings(run, "rtn")
    assert "in its worst class (class 3), more than chance alone gives" in said[1]

    def like_the_reference(row, records):
        return records | {"prediction": records["label"]}

    said = findings(rewrite(run, like_the_reference), "rtn")
    assert "; no evidence that it harms one class more than another (0.0 expected by chance, p = 1)." in said[1]
    assert GIVEN not in said, "there is no interval to speak of"


def test_without_full_precision_harm_is_not_tested(tmp_path):
    run = rewrite(made(tmp_path), lambda row, records: records if row["bits"] != "FP32" else None)
    said = findings(run, "rtn")
    assert said[0].startswith("rtn W8A8: ")
    assert said[0].endswith("could not be tested: there is no full-precision result to compare with.")
    assert "nan" not in " ".join(said)


def test_a_target_is_found_however_its_file_is_spelt(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text("from evalsuite.quantizers.rtn import RoundToNearest as Mine\n")
    run = rewrite(made(tmp_path), lambda row, records: row.update(quantizer=_known_as(row["quantizer"])) or records)
    assert findings(run, "./mine.py:Mine") == findings(run, "mine.py:Mine")
    assert findings(run, "./mine.py:Mine")[0].startswith("rtn W8A8: ")
    with pytest.raises(RequestError, match="nothing to compare"):
        audit_study("./mine.py:Mine", plugins.TASK, ["mine.py:Mine"])


def _known_as(quantizer):
    return configure("quantizers", "mine.py:Mine").name if quantizer == "rtn" else quantizer


def test_findings_begin_with_what_was_lost(tmp_path):
    run = rewrite(made(tmp_path), lambda row, records: None if row["quantizer_label"] == "rtn W8A8" else records)
    said = findings(run, "rtn")
    assert said[0] == (
        "1 of the 2 trials of the target gave no result (1 failed), the first, rtn W8A8, because: "
        "RuntimeError: no luck."
    )
    assert said[1].startswith("rtn W4A4: ")
    assert not findings(run, "adaround")[0].startswith("1 of")


def test_a_target_that_never_worked_gives_one_finding(tmp_path):
    run = rewrite(made(tmp_path), lambda row, records: None if row["quantizer"] == "rtn" else records)
    assert findings(run, "rtn") == [
        "2 of the 2 trials of the target gave no result (2 failed), the first, rtn W8A8, because: "
        "RuntimeError: no luck."
    ]


def test_the_comparisons_that_an_audit_asks_for_are_one_family(tmp_path):
    methods = ("rtn", "adaround", "gptq")
    quantizers = [("full_precision", "FP32"), *((name, bits) for name in methods for bits in ("W8A8", "W4A4"))]
    run = made(tmp_path, quantizers=quantizers, images=60, permutations=20, bootstrap=50)
    pairs = compare(run).set_index(["a", "b"])["p"]
    asked = [(f"{name} {bits}", f"rtn {bits}") for name in methods[1:] for bits in ("W8A8", "W4A4")]
    said = " ".join(findings(run, "rtn"))
    assert said.count("after Holm over 4 comparisons, ") == 4
    for (other, own), p in zip(asked, holm(pairs[asked]), strict=True):
        (contest,) = [sentence for sentence in findings(run, "rtn") if f"{other}:" in sentence and own in sentence]
        assert f"p = {p:.2g} after Holm" in contest
