import numpy as np
import pandas as pd

from evalsuite.analysis.contests import CONTEST_COLUMNS, contests_of
from evalsuite.statistics import holm


def comparison(a, b, bits, p, low, high, factor="quantizer"):
    values = {"task": "t", "factor": factor, "calibration_label": "c", "adapter_label": "x", "stream_label": "s"}
    values |= {"a": a, "b": b, "bits": bits, "test": "wilcoxon", "unit": "domain", "n": 9, "note": "", "p": p}
    return values | {"difference": (low + high) / 2, "low": low, "high": high}


COMPARISONS = pd.DataFrame(
    [
        comparison("mine W4A4", "rtn W4A4", "W4A4", 0.01, -0.3, -0.1),
        comparison("gptq W4A4", "mine W4A4", "W4A4", 0.03, 0.1, 0.2),
        comparison("mine W4A4", "rtn W8A8", None, 0.001, 0.1, 0.2),
        comparison("mine W4A4 mixed", "rtn W2A4 mixed", None, 0.001, 0.1, 0.2),
        comparison("gptq W4A4", "rtn W4A4", "W4A4", 0.001, 0.1, 0.2),
        comparison("mine W4A4", "other W4A4", "W4A4", np.nan, -0.1, 0.2),
        comparison("mine W4A4", "none", "W4A4", 0.001, 0.1, 0.2, factor="adapter"),
    ]
)


def test_a_target_meets_its_rivals_at_equal_bits_from_its_own_side():
    contests = contests_of(COMPARISONS, {"mine W4A4", "mine W4A4 mixed"})
    assert tuple(contests) == CONTEST_COLUMNS
    assert contests["rival"].tolist() == ["rtn W4A4", "gptq W4A4", "other W4A4"]
    assert set(contests["target"]) == {"mine W4A4"}
    np.testing.assert_allclose(contests[["low", "high"]], [[-0.3, -0.1], [-0.2, -0.1], [-0.1, 0.2]])
    np.testing.assert_allclose(contests["difference"], [-0.2, -0.15, 0.05])
    np.testing.assert_allclose(contests["p_holm"], holm([0.01, 0.03, np.nan]))
    assert contests["shown"].tolist() == [True, True, False]


def test_whose_side_it_is_told_from_does_not_change_what_is_claimed():
    rivals = contests_of(COMPARISONS, {"gptq W4A4", "rtn W4A4", "other W4A4"})
    rivals = rivals[rivals["rival"] == "mine W4A4"].set_index("target")
    contests = contests_of(COMPARISONS, {"mine W4A4"}).set_index("rival").loc[rivals.index]
    np.testing.assert_allclose(rivals["difference"], -contests["difference"])
    np.testing.assert_allclose(rivals["p_holm"], contests["p_holm"])
    assert (rivals["shown"] == contests["shown"]).all()


def test_without_a_rival_there_is_no_contest():
    assert contests_of(COMPARISONS, {"unknown"}).empty
    assert contests_of(COMPARISONS.iloc[:0], {"mine W4A4"}).empty
