from evalsuite.analysis import Settings
from evalsuite.analysis.outcomes import read_outcomes
from evalsuite.analysis.views import views_of
from evalsuite.store import Run
from reports.frames.views import QUANTIZERS, first_stream, views


def test_quantizers_are_compared_under_the_first_set_and_adapters_on_one_network(study_run: Run) -> None:
    found = views(study_run)
    quantizers, adapters = (found[found["view"] == name] for name in (QUANTIZERS, "rtn W4A4"))
    assert len(quantizers) + len(adapters) == len(found)
    assert list(quantizers["line"]) == ["full precision", "rtn W4A4", "adaround W4A4", "gptq W4A4"]
    assert list(quantizers["line_order"]) == [0, 1, 2, 3]
    assert list(quantizers["reference"]) == [True, False, False, False]
    assert set(found.loc[~found["reference"], "calibration_label"]) == {"size 64"}
    assert list(adapters["line"]) == ["full precision", "none", "zoa", "zoa activation shift off"]
    assert first_stream(found).equals(found)


def test_of_many_quantizers_those_with_the_fewest_bits(run: Run) -> None:
    found = views_of(run, read_outcomes(run), Settings.of(run), most=2)
    kept = found[(found["view"] == QUANTIZERS) & ~found["reference"]]
    assert set(kept["line"]) == {"rtn W4A4", "adaround W4A4"}
