import itertools
from types import SimpleNamespace

import numpy as np
import pytest
from _dummies.runs import make_run

from evalsuite import store
from evalsuite.analysis import ESTIMATES, Settings
from evalsuite.analysis.claims import LEVEL
from evalsuite.analysis.outcomes import COMBINATION, read_outcomes
from evalsuite.analysis.shift_excess import excess_interval, excess_p
from evalsuite.statistics import holm

QUANTIZERS = [("full_precision", "FP32"), ("rtn", "W8A8"), ("rtn", "W4A4")]
SETTINGS = Settings(seed=0, permutations=100, bootstrap=1000)


def made(folder, **changes):
    given = {"tasks": ["a"], "quantizers": QUANTIZERS, "domains": ["clean", "fog", "snow"], "images": 60}
    run = store.load(make_run(folder, **given | changes))
    return run, ESTIMATES["shift_excess"](run, read_outcomes(run), Settings.of(run))


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return made(tmp_path_factory.mktemp("shift"), seeds=(0, 1), adapters=["none", "tent"])


def test_drops_and_their_difference_are_those_of_the_records(found):
    run, table = found
    assert len(table) == 4, "two quantized networks without adaptation on two streams"
    records = run.records.assign(wrong=lambda table: table["prediction"] != table["label"])
    references = run.trials.set_index("trial")["reference"]
    for row in table.itertuples():
        own = run.trials[(run.trials[list(COMBINATION)] == [getattr(row, name) for name in COMBINATION]).all(axis=1)]
        own, other = (
            records[records["trial"].isin(names)].groupby("severity")["wrong"].agg(["sum", "count"])
            for names in (own["trial"], references[own["trial"]])
        )
        drops = (own["sum"] - other["sum"]) / own["count"]
        assert (row.clean_drop, row.shifted_drop) == pytest.approx((drops[0], drops[5]))
        assert row.excess == pytest.approx(drops[5] - drops[0])
        assert row.low <= row.excess <= row.high
        assert row.unit == "image x 2 calibration draws"
    for _, own in table.groupby("stream_label"):
        np.testing.assert_allclose(own["p_holm"], holm(own["p"]))


@pytest.mark.parametrize("domains", [["fog", "snow"], ["clean"]])
def test_a_stream_without_clean_images_or_without_others_has_none(tmp_path, domains):
    assert made(tmp_path, domains=domains)[1].empty


def layout(images, shifts, own):
    """Return which rows are clean, and the image of each: each image under all domains, or each under one."""
    domain = np.repeat(np.arange(shifts + 1), images)
    image = np.arange(len(domain)) if own else np.tile(np.arange(images), shifts + 1)
    return domain == 0, image.astype(np.int32)


def as_rows(image, draws=1):
    replicate = np.repeat(np.arange(draws), len(image) // draws)
    return SimpleNamespace(image=image, replicate=replicate, layouts=(None,) * draws, crossed=draws > 1)


def test_p_is_that_of_all_exchanges_within_images():
    clean, image = layout(images=8, shifts=3, own=False)
    drops = np.random.default_rng(1).integers(-1, 2, (len(image), 1)).astype(np.int8)
    (p,) = excess_p(drops, clean, image, np.zeros(len(image), np.int64))
    signs = np.array(list(itertools.product([1, -1], repeat=8)))
    signed = signs[:, image] * drops[:, 0]
    sizes = np.abs(signed[:, ~clean].mean(axis=1) - signed[:, clean].mean(axis=1))
    assert p == pytest.approx(np.mean(sizes >= sizes[0] - 1e-9))


@pytest.mark.parametrize("own", [False, True])
def test_interval_has_the_width_that_images_give_it(own):
    generator = np.random.default_rng(2)
    clean, image = layout(images=400, shifts=4, own=own)
    hard = generator.random(image.max() + 1)[image]
    drops = (hard < np.where(clean, 0.1, 0.2)).astype(np.int8)[:, None]
    found = excess_interval(drops, clean, as_rows(image), generator, SETTINGS)
    assert found.estimate[0] == pytest.approx(drops[~clean].mean() - drops[clean].mean())
    if own:
        error = np.hypot(*(drops[part].std() / np.sqrt(part.sum()) for part in (clean, ~clean)))
    else:
        error = (drops[~clean, 0].reshape(4, 400).mean(axis=0) - drops[clean, 0]).std() / np.sqrt(400)
    assert found.high[0] - found.low[0] == pytest.approx(2 * 1.96 * error, rel=0.1)


@pytest.mark.parametrize(("own", "draws"), [(False, 1), (True, 1), (False, 3)])
def test_equal_drops_are_seldom_called_different_and_others_often(own, draws):
    """Networks that lose ten points everywhere, by images that are hard everywhere and others that are so by chance."""
    generator, networks = np.random.default_rng(3), 400
    clean, image = layout(images=100, shifts=4, own=own)
    clean, image = np.tile(clean, draws), np.tile(image, draws)
    hard = generator.random((image.max() + 1, networks))[image]
    chance = generator.random(hard.shape)
    for more, expected in ((0.0, (0.0, 0.08)), (0.3, (0.9, 1.0))):
        drops = ((hard < 0.05) | (chance < np.where(clean, 0.05, 0.05 + more)[:, None])).astype(np.int8)
        rows = as_rows(image, draws)
        p = excess_p(drops, clean, image, rows.replicate)
        between = excess_interval(drops, clean, rows, generator, SETTINGS)
        claimed = (p < LEVEL) & ((between.low > 0) | (between.high < 0))
        assert expected[0] <= claimed.mean() <= expected[1]
        covered = ((between.low <= more * 0.95) & (more * 0.95 <= between.high)).mean()
        assert covered > 0.92
