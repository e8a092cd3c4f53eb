from __future__ import annotations

import pytest
from _dummies.runs import make_run

from evalsuite import store
from evalsuite.analysis.seen import seen_by

SMALL = {
    "tasks": ("a",),
    "quantizers": (("full_precision", "FP32"),),
    "adapters": ("none",),
    "streams": ("usual",),
    "domains": ("fog", "snow"),
    "images": 20,
}


def seen(folder, **changes):
    run = store.load(make_run(folder, **SMALL | changes))
    made = {"corruption": {"engine": "fast", "seed": 0}}
    store.write_study(folder, run.study | {"settings": made, "versions": {"numpy": "2.1.3", "torch": "2.6.0"}})
    return set(seen_by(store.load(folder)).values())


@pytest.fixture(scope="module")
def usual(tmp_path_factory):
    (found,) = seen(tmp_path_factory.mktemp("seen") / "usual")
    return found


@pytest.mark.parametrize(
    "changes",
    [
        {"streams": ("usual", "reversed")},
        {"domains": ("snow", "fog")},
        {"seeds": (0, 1, 2)},
        {"seed": 5},
        {"quantizers": (("full_precision", "FP32"), ("rtn", "W4A4"))},
    ],
)
def test_neither_order_nor_seeds_nor_methods_make_it_another(changes, usual, tmp_path):
    assert seen(tmp_path / "run", **changes) == {usual}


@pytest.mark.parametrize(
    "changes",
    [{"images": 19}, {"domains": ("fog",)}, {"domains": ("fog", "frost")}, {"severities": (3,)}, {"rounds": 2}],
)
def test_what_is_shown_and_how_often_does(changes, usual, tmp_path):
    (other,) = seen(tmp_path / "run", **changes)
    assert usual.differences(other) == ["shown"]


def test_clean_images_are_made_by_no_library(usual, tmp_path):
    (clean,) = seen(tmp_path / "run", domains=("clean",))
    assert usual.libraries[0] == ("numpy", "2.1")
    assert usual.corruption == (("engine", "fast"), ("seed", "0"))
    assert usual.differences(clean) == ["corruption", "libraries", "shown"]
