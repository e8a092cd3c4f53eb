import math
import os
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from _dummies.runs import make_run

from evalsuite import store
from evalsuite.analysis import Analysis
from evalsuite.store import Run
from reports.frames.evidence import Comparison, Evidence, evidence, least_p
from reports.frames.methods import KEYS


@pytest.mark.parametrize(
    ("low", "high", "p", "shown", "apart"),
    [
        (0.01, 0.03, 0.01, True, True),
        (-0.03, -0.01, 0.01, True, True),
        (-0.01, 0.03, 0.01, False, False),
        (0.01, 0.03, 0.05, False, True),
        (0.01, 0.03, math.nan, False, True),
    ],
)
def test_a_claim_needs_the_test_and_the_interval(low: float, high: float, p: float, shown: bool, apart: bool) -> None:
    found = Comparison((low + high) / 2, low, high, p, 15)
    assert (found.shown, found.apart) == (shown, apart)


def test_a_comparison_is_found_from_either_side() -> None:
    row = {"task": "t", "factor": "quantizer", "calibration_label": "c", "adapter_label": "x", "stream_label": "s"}
    row |= {"quantizer_label": None, "a": "q", "b": "r", "difference": 0.1, "low": 0.05, "high": 0.2, "p_holm": 0.01}
    row |= {"n": 9, "note": np.nan, "test": "wilcoxon", "unit": "domain"}
    found = Evidence(Analysis(pd.DataFrame(), pd.DataFrame([row]), pd.DataFrame()), pd.DataFrame())
    same = {"p": 0.01, "n": 9, "test": "wilcoxon", "unit": "domain"}
    q, r = (
        SimpleNamespace(task="t", calibration_label="c", adapter_label="x", stream_label="s", quantizer_label=name)
        for name in "qr"
    )
    assert found.against_quantizer(q, "r") == Comparison(0.1, 0.05, 0.2, **same)
    assert found.against_quantizer(r, "q") == Comparison(-0.1, -0.2, -0.05, **same)
    assert found.against_quantizer(q, "z") is None


def test_every_comparison_of_the_analysis_is_reachable(run: Run) -> None:
    found = evidence(run)
    reached = 0
    for method in found.methods.itertuples():
        reached += found.against_unadapted(method, "none") is not None
        reached += sum(
            found.against_quantizer(method, other) is not None for other in found.methods["quantizer_label"].unique()
        )
    # A pair of two quantized networks is reached from either side, one with full precision from the quantized side.
    both_ways = found.comparisons["factor"].eq("quantizer") & found.comparisons["b"].ne("full precision")
    assert reached == len(found.comparisons) + both_ways.sum()


def test_methods_are_the_summary_arranged(run: Run) -> None:
    found = evidence(run)
    assert len(found.methods) == len(found.summary)
    pd.testing.assert_frame_equal(
        found.methods.set_index(KEYS)[["error", "drop"]].sort_index(),
        found.summary.set_index(KEYS)[["error", "drop"]].sort_index(),
    )


def test_the_analysis_is_made_once_until_the_run_changes(tmp_path) -> None:
    folder = make_run(tmp_path, tasks=["digits/vit"], adapters=["none"], streams=["usual"], domains=["fog"], images=20)
    first = evidence(store.load(folder))
    assert evidence(store.load(folder)) is first
    trials = folder / "trials.parquet"
    os.utime(trials, ns=(0, trials.stat().st_mtime_ns + 1))
    assert evidence(store.load(folder)) is not first


def test_least_p(run: Run) -> None:
    assert least_p(run, 6) == pytest.approx(6 / 601)
    assert least_p(run, 10_000) == 1
    assert math.isnan(least_p(run, 0))
